module infer_test

go 1.19

require infer v0.0.0

replace infer => ../../../examples/ffi/go
