//! Wheels, brought from a folder.

use std::fs;

use tutti::store::StoreError;

use super::{Bench, Told, bytes, manifest, no_source, wheels};

#[test]
fn the_real_pip_brings_parts_that_are_joined_in_order() {
    let bench = Bench::new();
    let all = bytes(3_000_000);
    bench.wheel("part_a", "part_a/part.bin", &all[..1_300_000]);
    bench.wheel("part_b", "part_b/part.bin", &all[1_300_000..1_300_001]);
    bench.wheel("part_c", "part_c/part.bin", &all[1_300_001..]);
    let manifest = manifest("tiny", &all, vec![wheels(&["part_a", "part_b", "part_c"])]);
    let told = Told::default();
    let path = bench.store(bench.real_pip()).ensure(&manifest, &told).unwrap();
    assert!(fs::read(path).unwrap() == all);
    assert_eq!(bench.cached(), ["tiny.bin"], "nothing is left beside the file");
    let reached = told.reached.lock().unwrap();
    assert!(reached.is_sorted(), "progress does not fall");
    assert_eq!(reached.last(), Some(&3_000_000));
    assert!(told.notes().is_empty());
}

#[test]
fn a_second_store_finds_the_file_without_reading_it_through() {
    let bench = Bench::new();
    bench.wheel("part_a", "part_a/part.bin", &bytes(100));
    let manifest = manifest("tiny", &bytes(100), vec![wheels(&["part_a"])]);
    bench.store(bench.options()).ensure(&manifest, &Told::default()).unwrap();
    let told = Told::default();
    bench.store(bench.options()).ensure(&manifest, &told).unwrap();
    assert!(told.reached.lock().unwrap().is_empty());
    assert_eq!(bench.downloads().len(), 1);
}

#[test]
fn a_broken_off_download_goes_on_with_the_next_wheel() {
    let bench = Bench::new();
    let all = bytes(1000);
    bench.wheel("part_a", "part_a/part.bin", &all[..600]);
    let manifest = manifest("tiny", &all, vec![wheels(&["part_a", "part_b"])]);
    bench.store(bench.options()).ensure(&manifest, &Told::default()).unwrap_err();
    assert_eq!(bench.cached(), ["tiny.bin.part", "tiny.bin.part.json"]);

    // As after a kill in the middle of the next part, and of the wheel after it.
    let part = bench.at("cache/models/tiny.bin.part");
    let mut half = fs::read(&part).unwrap();
    half.extend_from_slice(&all[600..700]);
    fs::write(&part, half).unwrap();
    fs::create_dir_all(bench.at("cache/models/tiny.bin.wheels/1/dest")).unwrap();
    fs::write(bench.at("cache/models/tiny.bin.wheels/1/dest/part_b-1.0-py3-none-any.whl"), "half")
        .unwrap();
    fs::remove_file(bench.at("wheels/part_a-1.0-py3-none-any.whl")).unwrap();
    bench.wheel("part_b", "part_b/part.bin", &all[600..]);
    let told = Told::default();
    let path = bench.store(bench.options()).ensure(&manifest, &told).unwrap();
    assert!(fs::read(path).unwrap() == all);
    assert_eq!(told.reached.lock().unwrap().first(), Some(&600));
    assert_eq!(bench.cached(), ["tiny.bin"]);
    assert_eq!(bench.downloads(), ["part_a==1.0", "part_b==1.0", "part_b==1.0"]);
}

#[test]
fn a_beginning_of_another_file_is_not_gone_on_with() {
    let bench = Bench::new();
    bench.wheel("part_a", "part_a/part.bin", &bytes(1000)[..600]);
    let old = manifest("tiny", &bytes(1000), vec![wheels(&["part_a", "part_b"])]);
    bench.store(bench.options()).ensure(&old, &Told::default()).unwrap_err();
    bench.wheel("part_c", "part_c/part.bin", &bytes(700));
    let new = manifest("tiny", &bytes(700), vec![wheels(&["part_c"])]);
    let path = bench.store(bench.options()).ensure(&new, &Told::default()).unwrap();
    assert!(fs::read(path).unwrap() == bytes(700));
}

#[test]
fn a_wrong_whole_is_an_error_with_both_sums_and_leaves_nothing() {
    for (content, size) in
        [([0; 100].as_slice(), None), (&[0; 99], Some(99)), (&[0; 101], Some(101))]
    {
        let bench = Bench::new();
        bench.wheel("part_a", "part_a/part.bin", content);
        let manifest = manifest("tiny", &bytes(100), vec![wheels(&["part_a"])]);
        let error = bench.store(bench.options()).ensure(&manifest, &Told::default()).unwrap_err();
        match (&no_source(error)[..], size) {
            ([StoreError::WrongSum { path, expected, found }], None) => {
                assert!(path.starts_with(bench.at("cache")));
                assert_eq!(*expected, manifest.files[0].sha256);
                assert!(found.starts_with("cd00e292c5970d3c5e2f0ffa5171e555bc46bfc4faddfb4a"));
            }
            ([StoreError::WrongSize { expected: 100, found, .. }], Some(size)) => {
                assert_eq!(*found, size);
            }
            (other, _) => panic!("{other:?}"),
        }
        assert!(bench.cached().is_empty(), "{:?}", bench.cached());
    }
}

#[test]
fn a_member_that_is_not_there_is_named() {
    let bench = Bench::new();
    bench.wheel("part_a", "part_a/other.bin", &bytes(100));
    let manifest = manifest("tiny", &bytes(100), vec![wheels(&["part_a"])]);
    let error = bench.store(bench.options()).ensure(&manifest, &Told::default()).unwrap_err();
    let [StoreError::Wheel { package, member, .. }] = &no_source(error)[..] else { panic!() };
    assert_eq!((package.as_str(), member.as_str()), ("part_a==1.0", "part_a/part.bin"));
}

#[test]
fn what_the_real_pip_said_last_is_in_the_error() {
    let bench = Bench::new();
    let manifest = manifest("tiny", &bytes(100), vec![wheels(&["part_a"])]);
    let error = bench.store(bench.real_pip()).ensure(&manifest, &Told::default()).unwrap_err();
    let [StoreError::Pip { command, reason }] = &no_source(error)[..] else { panic!() };
    assert!(command.contains("download") && command.ends_with("part_a==1.0"), "{command}");
    assert!(reason.contains("No matching distribution found for part_a==1.0"), "{reason}");
}

#[test]
fn the_first_pip_that_answers_is_used_and_none_is_an_error() {
    let bench = Bench::new();
    bench.wheel("part_a", "part_a/part.bin", &bytes(100));
    let manifest = manifest("tiny", &bytes(100), vec![wheels(&["part_a"])]);
    let mut options = bench.options();
    let real = options.pips.pop().unwrap();
    options.pips = vec![vec!["no-such-program".to_owned()], vec!["false".to_owned()]];
    let error = bench.store(options.clone()).ensure(&manifest, &Told::default()).unwrap_err();
    let [StoreError::NoPip { tried }] = &no_source(error)[..] else { panic!() };
    assert_eq!(tried, "no-such-program, false");
    options.pips.push(real);
    bench.store(options).ensure(&manifest, &Told::default()).unwrap();
}
