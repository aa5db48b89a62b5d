// Package infer is libinfer from Go. cgo reads the C header as it is; where it is
// not installed, CGO_CFLAGS and CGO_LDFLAGS say where it lies.
package infer

/*
#cgo LDFLAGS: -linfer
#include <infer/infer.h>
#include <stdlib.h>
*/
import "C"

import (
	"runtime"
	"unsafe"
)

// Error is a call that failed: Status is negative, Sentence is libinfer's.
type Error struct {
	Status   int
	Sentence string
}

func (e *Error) Error() string {
	return e.Sentence
}

// try makes a call and fetches its sentence on the same thread: Go may move a
// goroutine between two calls into C, and the sentence stays with the thread.
func try(call func() C.infer_status) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if status := call(); status < 0 {
		return &Error{int(status), C.GoString(C.infer_last_error())}
	}
	return nil
}

// Version of the library that is running.
func Version() uint32 {
	return uint32(C.infer_version())
}

// Model may be shared by any number of goroutines.
type Model struct {
	handle *C.infer_model
}

// Load maps a model. Close it when it is no longer needed.
func Load(path string) (*Model, error) {
	name := C.CString(path)
	defer C.free(unsafe.Pointer(name))
	model := &Model{}
	err := try(func() C.infer_status { return C.infer_model_load(&model.handle, name, nil) })
	if err != nil {
		return nil, err
	}
	return model, nil
}

// Close drops the model; sessions that use it keep it alive.
func (m *Model) Close() {
	C.infer_model_destroy(&m.handle)
}

// Session batches the requests of all goroutines that use it.
type Session struct {
	handle *C.infer_session
}

// NewSession opens a session with default options.
func (m *Model) NewSession() (*Session, error) {
	session := &Session{}
	err := try(func() C.infer_status {
		return C.infer_session_create(&session.handle, m.handle, nil)
	})
	if err != nil {
		return nil, err
	}
	return session, nil
}

// Close cancels what is running and drops the session.
func (s *Session) Close() {
	C.infer_session_destroy(&s.handle)
}

// Generate streams the continuation of a prompt into text, which returns false
// to stop. It polls events, so no Go function is called from C.
func (s *Session) Generate(prompt string, maxTokens int, text func(string) bool) error {
	var request *C.infer_request
	options := (*C.infer_request_options)(C.calloc(1, C.sizeof_infer_request_options))
	defer C.free(unsafe.Pointer(options))
	options.struct_size = C.sizeof_infer_request_options
	options.prompt = C.CString(prompt)
	defer C.free(unsafe.Pointer(options.prompt))
	options.prompt_size = C.size_t(len(prompt))
	options.max_tokens = C.int64_t(maxTokens)
	err := try(func() C.infer_status {
		return C.infer_session_submit(&request, s.handle, options)
	})
	if err != nil {
		return err
	}
	defer C.infer_request_destroy(&request)
	return drain(request, text)
}

func drain(request *C.infer_request, text func(string) bool) error {
	event := C.infer_event{struct_size: C.sizeof_infer_event}
	for {
		var status C.infer_status
		err := try(func() C.infer_status {
			status = C.infer_request_next(request, &event)
			return status
		})
		if err != nil || status == C.INFER_DONE {
			return err
		}
		if event.text_size > 0 && !text(C.GoStringN(event.text, C.int(event.text_size))) {
			C.infer_request_cancel(request)
		}
	}
}
