//! The walk through `docs/DEVELOPING.md`, "Break it", typed into one shell: every block of commands, in their order. Needs fio; the part that
//! cuts a sled off needs root and nft, and is left out where they are not.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod shell;

use camino_tempfile::Utf8TempDir;
use shell::Shell;

/// What is typed.
const PAGE: &str = include_str!("../../docs/DEVELOPING.md");

/// What stands for `cargo xtask`: the program that is tested, which runs programs that are built already.
const CARGO: &str = r#"
cargo() {
    shift
    if [ "$2" = up ]; then set -- "$@" --bin-dir "$BIN_DIR"; fi
    "$XTASK" "$@"
}
"#;

/// The blocks of commands between this heading and the next one.
fn blocks(heading: &str) -> Vec<String> {
    let (_, behind) = PAGE.split_once(&format!("\n{heading}\n")).expect("the page has it");
    let section = behind.split("\n#").next().unwrap();
    let blocks = section.split("```sh\n").skip(1);
    blocks.map(|block| block.split("```").next().unwrap().to_owned()).collect()
}

#[test]
fn what_the_page_says_can_be_typed() {
    let can_cut_off = match testbed::check_partition() {
        Ok(()) => true,
        Err(refusal) => {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "CI runs this: {refusal:#}");
            eprintln!("a part is left out: {refusal:#}");
            false
        }
    };
    let temp = Utf8TempDir::new().unwrap();
    let blocks = blocks("### Break it");
    assert_eq!((blocks.len(), blocks.iter().filter(|block| block.contains("partition")).count()), (4, 1));
    let typed = blocks.into_iter().filter(|block| can_cut_off || !block.contains("partition"));
    let script = CARGO.to_owned() + &typed.collect::<String>();
    let output = temp.path().join("said");
    let shell = Shell::start(&script, temp.path(), &output);
    let is_well = shell.ends_well();
    let said = std::fs::read_to_string(&output).unwrap();
    assert!(is_well, "{said}");
    assert!(said.contains("err= 0") && said.contains("active with epoch 1"), "{said}");
    assert!(!temp.path().join("default").exists());
}
