// libinfer from Rust, without a crate: copy this file into your program and link
// with `-l infer`. The extern block is the C header; the rest makes it idiomatic.
#![allow(dead_code)]

use std::ffi::{c_void, CStr, CString};
use std::os::raw::c_char;
use std::ptr;

pub const OK: i32 = 0;
pub const DONE: i32 = 2;

#[repr(C)]
pub struct Message {
    pub role: *const c_char,
    pub content: *const c_char,
    pub reserved: [u64; 2],
}

#[repr(C)]
pub struct RequestOptions {
    pub struct_size: usize,
    pub prompt: *const c_char,
    pub prompt_size: usize,
    pub tokens: *const i32,
    pub n_tokens: usize,
    pub messages: *const Message,
    pub n_messages: usize,
    pub sampling: *const c_void,
    pub stop: *const *const c_char,
    pub n_stop: usize,
    pub max_tokens: i64,
    pub prefill_only: i32,
    pub ignore_eos: i32,
    pub parse_special: i32,
    pub logprobs: i32,
    pub n_top_logprobs: i32,
    pub prompt_logprobs: i32,
    pub want_logits: i32,
}

impl Default for RequestOptions {
    // Zero is every option's default, and null is a legal value of every pointer.
    fn default() -> Self {
        let mut options: RequestOptions = unsafe { std::mem::zeroed() };
        options.struct_size = std::mem::size_of::<RequestOptions>();
        options
    }
}

type TextFn = extern "C" fn(*const c_char, usize, *mut c_void) -> i32;

#[link(name = "infer")]
extern "C" {
    fn infer_last_error() -> *const c_char;
    fn infer_version() -> u32;
    fn infer_model_load(out: *mut *mut c_void, path: *const c_char, options: *const c_void) -> i32;
    fn infer_model_destroy(model: *mut *mut c_void);
    fn infer_session_create(
        out: *mut *mut c_void,
        model: *mut c_void,
        options: *const c_void,
    ) -> i32;
    fn infer_session_destroy(session: *mut *mut c_void);
    fn infer_session_generate(
        session: *mut c_void,
        prompt: *const c_char,
        options: *const RequestOptions,
        text: Option<TextFn>,
        user_data: *mut c_void,
    ) -> i32;
}

/// A call that failed: the status is negative, the sentence is libinfer's.
#[derive(Debug)]
pub struct Error {
    pub status: i32,
    pub sentence: String,
}

fn check(status: i32) -> Result<(), Error> {
    if status >= 0 {
        return Ok(());
    }
    let text = unsafe { CStr::from_ptr(infer_last_error()) };
    Err(Error {
        status,
        sentence: text.to_string_lossy().into_owned(),
    })
}

fn c_string(text: &str) -> Result<CString, Error> {
    CString::new(text).map_err(|_| Error {
        status: -1,
        sentence: "the text holds a zero byte".to_string(),
    })
}

pub fn version() -> u32 {
    unsafe { infer_version() }
}

/// A model may be shared by any number of threads.
pub struct Model {
    handle: *mut c_void,
}

unsafe impl Send for Model {}
unsafe impl Sync for Model {}

impl Model {
    pub fn load(path: &str) -> Result<Model, Error> {
        let path = c_string(path)?;
        let mut handle = ptr::null_mut();
        check(unsafe { infer_model_load(&mut handle, path.as_ptr(), ptr::null()) })?;
        Ok(Model { handle })
    }

    pub fn session(&self) -> Result<Session, Error> {
        let mut handle = ptr::null_mut();
        check(unsafe { infer_session_create(&mut handle, self.handle, ptr::null()) })?;
        Ok(Session { handle })
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        unsafe { infer_model_destroy(&mut self.handle) }
    }
}

/// A session keeps its model alive by itself, so it needs no lifetime.
pub struct Session {
    handle: *mut c_void,
}

unsafe impl Send for Session {}
unsafe impl Sync for Session {}

/// Hands a piece of text to the closure behind `user_data`.
extern "C" fn call_closure(text: *const c_char, size: usize, user_data: *mut c_void) -> i32 {
    let closure = unsafe { &mut *(user_data as *mut &mut dyn FnMut(&str) -> bool) };
    let bytes = unsafe { std::slice::from_raw_parts(text as *const u8, size) };
    match std::str::from_utf8(bytes) {
        Ok(text) if closure(text) => 0,
        _ => 1,
    }
}

impl Session {
    /// Streams the continuation of a prompt into `text`, which returns false to stop.
    pub fn generate(
        &self,
        prompt: &str,
        options: &RequestOptions,
        mut text: impl FnMut(&str) -> bool,
    ) -> Result<(), Error> {
        let prompt = c_string(prompt)?;
        let mut closure: &mut dyn FnMut(&str) -> bool = &mut text;
        let user_data = &mut closure as *mut &mut dyn FnMut(&str) -> bool as *mut c_void;
        check(unsafe {
            infer_session_generate(
                self.handle,
                prompt.as_ptr(),
                options,
                Some(call_closure),
                user_data,
            )
        })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        unsafe { infer_session_destroy(&mut self.handle) }
    }
}
