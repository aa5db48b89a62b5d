module infer

go 1.19
