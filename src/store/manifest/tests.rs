//! What manifests may say.

use super::*;

const TINY: &str = r#"
        id = "tiny"
        name = "Tiny"
        architecture = "none"
        licence = "Apache-2.0"
        file = "tiny.bin"
        size = 3
        sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        [[source]]
        local = "sub/tiny.bin"
        [[source]]
        hub = { repo = "owner/name", file = "tiny.bin" }
        [[source]]
        wheels = [{ package = "tiny-a==1.0", member = "a/0.bin" }]
    "#;

fn parse(text: &str) -> Result<Manifest, StoreError> {
    Manifest::parse(text, "tiny", Path::new("folder"))
}

#[test]
fn a_manifest_keeps_its_sources_in_order_and_its_folder() {
    let manifest = parse(TINY).unwrap();
    let kinds: Vec<_> = manifest.files[0].sources.iter().map(Source::kind).collect();
    assert_eq!(kinds, ["local", "hub", "wheels"]);
    assert_eq!(manifest.files[0].sources[0], Source::Local(PathBuf::from("folder/sub/tiny.bin")));
    let Source::Hub(hub) = &manifest.files[0].sources[1] else { panic!("the second is the hub") };
    assert_eq!(hub.revision, "main");
}

#[test]
fn what_a_manifest_may_not_say_is_refused_by_name() {
    for (from, to, word) in [
        ("id = \"tiny\"", "id = \"other\"", "other"),
        ("architecture = \"none\"", "", "architecture"),
        ("architecture = \"none\"", "architecture = \"none\"\nrows = \"x\"", "rows"),
        ("size = 3", "size = 0", "size"),
        ("size = 3", "size = 3\nspeed = 1", "speed"),
        ("file = \"tiny.bin\"\n        size", "file = \"../tiny.bin\"\n        size", "file"),
        ("file = \"tiny.bin\"\n        size", "file = \"..\"\n        size", "file"),
        ("ba7816", "BA7816", "sha256"),
        ("ba7816", "", "sha256"),
        ("local =", "remote =", "remote"),
        ("owner/name", "name", "owner/name"),
        ("tiny-a==1.0", "tiny-a", "name==version"),
        ("tiny-a==1.0", "--index-url==1", "name==version"),
        ("member = \"a/0.bin\"", "member = \"a\", sum = 1", "sum"),
    ] {
        let text = TINY.replacen(from, to, 1);
        assert_ne!(text, TINY, "{from} is in the text");
        let error = parse(&text).unwrap_err().to_string();
        assert!(error.contains(word) && error.contains("tiny"), "{to}: {error}");
    }
}

const FILES: &str = r#"
        id = "tiny"
        name = "Tiny"
        architecture = "none"
        licence = "Apache-2.0"
        open = "b.bin"
        [[files]]
        file = "a.bin"
        size = 3
        sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        source = [{ local = "sub/a.bin" }]
        [[files]]
        file = "b.bin"
        size = 4
        sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        source = [{ hub = { repo = "owner/name", file = "b.bin" } }]
    "#;

#[test]
fn a_manifest_of_several_files_is_checked_file_by_file() {
    let manifest = parse(FILES).unwrap();
    assert_eq!((manifest.files.len(), manifest.size()), (2, 7));
    for (from, to, word) in [
        ("open = \"b.bin\"", "open = \"c.bin\"", "c.bin"),
        ("file = \"b.bin\"\n", "file = \"A.bin\"\n", "twice"),
        ("file = \"b.bin\"\n", "file = \"../b.bin\"\n", "../b.bin"),
        ("open =", "size = 1\nopen =", "`file`"),
        ("size = 4", "size = 0", "size"),
    ] {
        let text = FILES.replacen(from, to, 1);
        assert_ne!(text, FILES, "{from} is in the text");
        let error = parse(&text).unwrap_err().to_string();
        assert!(error.contains(word) && error.contains("tiny"), "{to}: {error}");
    }
}

#[test]
fn a_written_manifest_is_read_again_and_not_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let models = folder.path().join("models");
    for text in [FILES, TINY] {
        let manifest = Manifest::parse(text, "tiny", &models).unwrap();
        let path = write(&manifest, &models, Existing::Replace).unwrap();
        assert_eq!(path, models.join("tiny.toml"));
        assert_eq!(find(&manifests(&models).unwrap(), "tiny").unwrap(), &manifest);
        let other = Manifest { name: "other".to_owned(), ..manifest.clone() };
        let error = write(&other, &models, Existing::Keep).unwrap_err();
        assert!(matches!(&error, StoreError::Taken { id } if id == "tiny"), "{error}");
        assert_eq!(find(&manifests(&models).unwrap(), "tiny").unwrap(), &manifest);
    }
    let tiny = Manifest::parse(TINY, "tiny", &models).unwrap();
    let built_in = Manifest { id: "smollm2-135m-instruct".to_owned(), ..tiny.clone() };
    write(&built_in, &models, Existing::Keep).unwrap_err();
    let outside = Manifest { id: "../tiny".to_owned(), ..tiny };
    write(&outside, &models, Existing::Keep).unwrap_err();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn the_built_in_manifests_are_sound_without_a_folder() {
    let found = manifests(Path::new("no such folder")).unwrap();
    let ids: Vec<_> = found.iter().map(|manifest| manifest.id.as_str()).collect();
    assert_eq!(
        ids,
        ["qwen2.5-coder-0.5b-instruct", "qwen2.5-coder-1.5b-instruct", "smollm2-135m-instruct"]
    );
    assert_eq!(find(&found, "smollm2-135m-instruct").unwrap().size(), 98_362_432);
}

#[test]
fn the_built_in_data_sets_are_sound_and_models_are_none_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let found = data_sets(folder.path()).unwrap();
    assert_eq!(found.len(), BUILT_IN_SAMPLES.len());
    let mmlu = find_data_set(&found, "mmlu").unwrap();
    assert_eq!(mmlu.content, Content::Samples { rows: "mmlu".to_owned() });
    let error = find_data_set(&found, "nothing").unwrap_err().to_string();
    assert!(error.contains("nothing") && error.contains("truthfulqa"), "{error}");

    fs::write(folder.path().join("tiny.toml"), TINY).unwrap();
    let error = data_sets(folder.path()).unwrap_err().to_string();
    assert!(error.contains("tiny") && error.contains("`rows`"), "{error}");
    let samples = TINY.replacen("architecture = \"none\"", "rows = \"mmlu\"", 1);
    fs::write(folder.path().join("tiny.toml"), samples).unwrap();
    find_data_set(&data_sets(folder.path()).unwrap(), "tiny").unwrap();
    let error = manifests(folder.path()).unwrap_err().to_string();
    assert!(error.contains("tiny") && error.contains("`architecture`"), "{error}");
}

#[test]
fn a_manifest_of_the_folder_takes_the_place_of_a_built_in_one() {
    let folder = tempfile::tempdir().unwrap();
    let id = "smollm2-135m-instruct";
    let text = TINY.replacen("id = \"tiny\"", &format!("id = \"{id}\""), 1);
    fs::write(folder.path().join(format!("{id}.toml")), text).unwrap();
    fs::write(folder.path().join("tiny.toml"), TINY).unwrap();
    fs::write(folder.path().join("notes.txt"), "not a manifest").unwrap();
    let found = manifests(folder.path()).unwrap();
    assert_eq!(found.len(), 4);
    assert_eq!(find(&found, id).unwrap().files[0].name, "tiny.bin");
    let error = find(&found, "nobody").unwrap_err().to_string();
    assert!(error.contains("nobody") && error.contains("tiny"), "{error}");
}
