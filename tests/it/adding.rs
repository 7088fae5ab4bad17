//! Models of one's own, by the commands that people type: `tutti models add`, and what then takes
//! their names.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::Stdio,
};

use candle_core::quantized::gguf_file::Value;

use crate::{
    damaged,
    desk::Desk,
    folder::{self, NAMES},
};

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The words of the line that begins with `what`.
fn line<'a>(out: &'a str, what: &str) -> &'a str {
    let line = out.lines().find_map(|line| line.strip_prefix(what));
    line.unwrap_or_else(|| panic!("no `{what}` in {out}")).trim()
}

#[test]
fn a_file_is_described_and_runs_by_its_name() {
    let desk = Desk::new();
    desk.gguf("mine.Q8_0.gguf");
    let out = desk.out(&["models", "add", "mine.Q8_0.gguf"]);
    for (what, says) in [
        ("name", "Tiny One"),
        ("architecture", "qwen2"),
        ("context", "20 tokens"),
        ("tokenizer", "byte-level BPE, cut as qwen2, 230 tokens"),
        ("chat template", "yes"),
        ("stops", "<|im_end|> (193)"),
        ("licence", "mit"),
        ("memory", "20.14 kB: 18.86 kB of weights, 1.28 kB for one full context"),
    ] {
        assert_eq!(line(&out, what), says);
    }
    assert!(line(&out, "added as").starts_with("`mine.Q8_0`"), "{out}");

    let listed = desk.out(&["models"]);
    let listed = line(&listed, "mine.Q8_0");
    assert!(listed.contains("mit") && listed.contains("yes: "), "{listed}");
    // The list shows sums not yet checked; this one was made of the file.
    assert!(!listed.contains("not yet checked"), "{listed}");
    let next = desk.out(&["inspect", "the", "--next", "--model", "mine.Q8_0", "--json"]);
    assert!(next.contains("mine.Q8_0"), "{next}");
    let unknown = desk.refusal(&["inspect", "the", "--next", "--model", "mine"]);
    assert!(unknown.contains("`mine`") && unknown.contains("mine.Q8_0"), "{unknown}");
}

#[test]
fn a_folder_and_a_split_file_are_added_whole_and_composed() {
    let desk = Desk::new();
    let folder = folder::folder();
    fs::write(folder.path().join("README.md"), "---\nlicense: apache-2.0\n---\n").unwrap();
    let out = desk.out(&["models", "add", text(folder.path()), "--id", "left"]);
    assert_eq!(line(&out, "architecture"), "qwen2");
    assert_eq!(line(&out, "licence"), "apache-2.0");
    assert_eq!(line(&out, "stops"), "<|done|> (2)");
    assert!(line(&out, "files").starts_with("4, "), "{out}");

    folder::split(&damaged::small(), desk.folder.path());
    let out = desk.out(&["models", "add", NAMES[0]]);
    assert!(line(&out, "files").starts_with("3, "), "{out}");
    assert!(line(&out, "added as").starts_with("`tiny`"), "{out}");

    desk.write(
        "tutti.toml",
        "[[ensemble]]\nname = \"both\"\nmembers = [{ model = \"left\" }, { model = \"tiny\" }]\n",
    );
    let next = desk.out(&["inspect", "the", "--next", "--json"]);
    assert!(next.contains("\"left\"") && next.contains("\"tiny\""), "{next}");

    // A part that has changed since is not the model that was added.
    desk.write(NAMES[1], "changed");
    let error = desk.refusal(&["inspect", "the", "--next"]);
    assert!(error.contains("no source of tiny") && error.contains(NAMES[1]), "{error}");
}

#[test]
fn a_name_that_is_taken_is_kept_unless_told_otherwise() {
    let desk = Desk::new();
    desk.gguf("mine.gguf");
    desk.gguf("other.gguf");
    desk.out(&["models", "add", "mine.gguf"]);
    let before = fs::read_to_string(desk.at("models/mine.toml")).unwrap();
    for words in [
        &["models", "add", "other.gguf", "--id", "mine"][..],
        &["models", "add", "other.gguf", "--id", "smollm2-135m-instruct"],
        &["models", "add", "other.gguf", "--id", "duet"],
    ] {
        let error = desk.refusal(words);
        assert!(error.contains(words[4]) && error.contains("--id"), "{error}");
    }
    assert_eq!(fs::read_to_string(desk.at("models/mine.toml")).unwrap(), before);
    desk.out(&["models", "add", "other.gguf", "--id", "mine", "--force"]);
    let after = fs::read_to_string(desk.at("models/mine.toml")).unwrap();
    assert!(after.contains("other.gguf") && !after.contains("mine.gguf"), "{after}");
}

#[test]
fn what_is_missing_or_not_supported_is_named_and_nothing_is_written() {
    let desk = Desk::new();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny/llama3");
    let error = desk.refusal(&["models", "add", text(&fixture)]);
    assert!(error.contains("tokenizer.json"), "{error}");

    let folder = folder::folder();
    fs::remove_file(folder.path().join("model.safetensors")).unwrap();
    let error = desk.refusal(&["models", "add", text(folder.path())]);
    assert!(error.contains("model.safetensors"), "{error}");

    let add = |change: &dyn Fn(&mut crate::tiny::Tiny)| {
        let mut tiny = damaged::small();
        change(&mut tiny);
        fs::copy(tiny.write().0.path(), desk.at("mine.gguf")).unwrap();
        desk.refusal(&["models", "add", "mine.gguf"])
    };
    let family = Value::String("mamba".to_owned());
    let error = add(&|tiny| tiny.set("general.architecture", family.clone()));
    assert!(error.contains("mamba"), "{error}");
    let error = add(&|tiny| tiny.tensors.retain(|(name, _)| name != "blk.0.ffn_up.weight"));
    assert!(error.contains("blk.0.ffn_up.weight"), "{error}");
    let error = desk.refusal(&["models", "add", "absent.gguf"]);
    assert!(error.contains("absent.gguf"), "{error}");
    assert!(!desk.at("models").exists());
}

#[test]
fn a_server_loads_an_added_model_that_is_in_no_ensemble() {
    let desk = Desk::new();
    desk.gguf("mine.gguf");
    desk.out(&["models", "add", "mine.gguf"]);
    desk.write("tutti.toml", "load = [\"mine\"]\n");
    let mut server =
        desk.command(&["serve", "--port", "0"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut said).unwrap();
    server.kill().unwrap();
    server.wait().unwrap();
    assert!(said.starts_with("serving mine on http://"), "{said}");

    desk.write("tutti.toml", "load = [\"nobody\"]\n");
    let error = desk.refusal(&["serve", "--port", "0"]);
    assert!(error.contains("`nobody`") && error.contains("mine"), "{error}");
}

#[test]
fn a_model_is_added_though_nobody_reads_what_it_is() {
    let desk = Desk::new();
    desk.gguf("tiny.gguf");
    let mut command = desk.command(&["models", "add", "tiny.gguf"]);
    let mut adding = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    drop(adding.stdout.take());
    assert!(adding.wait().unwrap().success());
    assert!(desk.out(&["models"]).contains("tiny"));
}

#[test]
fn what_is_called_wrongly_is_told_with_what_there_is() {
    let desk = Desk::new();
    desk.gguf("tiny.gguf");
    let told = desk.refusal(&["inspect", "a", "--model", "tiny.gguf"]);
    assert!(told.contains("what lies here is `./tiny.gguf`"), "{told}");
    desk.out(&["inspect", "a", "--model", "./tiny.gguf"]);
    let told = desk.refusal(&["inspect", "a", "--model", "./none.gguf"]);
    assert!(told.contains("there is no file or folder `./none.gguf`"), "{told}");
    let told = desk.refusal(&["bench", "--quick", "--model", "./tiny.gguf", "--json", "no/x.json"]);
    assert!(told.contains("there is no folder"), "{told}");
    let told = desk.refusal(&["bench", "--quick", "--model", "./tiny.gguf", "--gate", "0.5"]);
    assert!(told.contains("--gate is for ensembles"), "{told}");

    // Paths of a configuration start where it is.
    fs::create_dir(desk.at("d")).unwrap();
    fs::copy(desk.at("tiny.gguf"), desk.at("d/own.gguf")).unwrap();
    let ensemble = |model: &str| {
        format!("[[ensemble]]\nname = \"one\"\nmembers = [{{ model = \"{model}\" }}]\n")
    };
    desk.write("d/c.toml", &ensemble("./own.gguf"));
    desk.out(&["--config", "d/c.toml", "inspect", "a", "--next"]);
    desk.write("d/c.toml", &format!("default = \"./own.gguf\"\n{}", ensemble("nope")));
    desk.out(&["--config", "d/c.toml", "inspect", "a"]);
    desk.write("d/c.toml", &ensemble("nope"));
    let told = desk.refusal(&["--config", "d/c.toml", "inspect", "a", "--next"]);
    assert!(told.contains("the ensemble `one` has `nope`"), "{told}");

    fs::create_dir(desk.at("models")).unwrap();
    desk.write("models/foreign.toml", "[package]\n");
    let told = desk.refusal(&["models"]);
    assert!(told.contains("models/foreign.toml") && told.contains("paths.models"), "{told}");
}
