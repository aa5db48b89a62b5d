MOE = {}
