// The library from Rust, through examples/ffi/rust.   usage: main MODEL
#[path = "../../examples/ffi/rust/infer.rs"]
mod infer;

fn generate(path: &str) -> Result<String, infer::Error> {
    let model = infer::Model::load(path)?;
    let session = model.session()?;
    drop(model); // the session keeps it
    let mut text = String::new();
    let options = infer::RequestOptions {
        max_tokens: 8,
        ignore_eos: 1,
        ..Default::default()
    };
    session.generate("Once upon a time", &options, |piece| {
        text.push_str(piece);
        true
    })?;
    Ok(text)
}

fn stop(path: &str) -> Result<(), infer::Error> {
    let options = infer::RequestOptions {
        ignore_eos: 1,
        ..Default::default()
    };
    infer::Model::load(path)?
        .session()?
        .generate("Once", &options, |_| false)
}

fn main() {
    let path = std::env::args().nth(1).expect("usage: main MODEL");
    let missing = match infer::Model::load("/nowhere/model.gguf") {
        Err(error) => error.status == -3 && error.sentence.contains("/nowhere/model.gguf"),
        Ok(_) => false,
    };
    let text = generate(&path);
    let stopped = stop(&path);
    let cases = [
        ("rust: version", infer::version() >= 1000),
        ("rust: generates", matches!(&text, Ok(t) if !t.is_empty())),
        ("rust: a closure stops", matches!(&stopped, Err(e) if e.status == -10)),
        ("rust: says what is wrong", missing),
    ];
    for (i, (name, good)) in cases.iter().enumerate() {
        println!("{} {} - {}", if *good { "ok" } else { "not ok" }, i + 1, name);
    }
    println!("1..{}", cases.len());
    if !cases.iter().all(|(_, good)| *good) {
        println!("# {:?} {:?}", text, stopped);
        std::process::exit(1);
    }
}
