/* Every architecture: one line each, one table each in its own file. */
MODEL_ARCH(llama)
