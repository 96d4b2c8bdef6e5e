//! What may be offered at all.

use nbd_server::{
    BlockSize, EXPORTS_MAX, Export, ExportError, ExportProblem, Exports, Features,
    PAYLOAD_BYTES_MAX_GREATEST, PAYLOAD_BYTES_MAX_LEAST, PAYLOAD_BYTES_MAX_USUAL, TextProblem,
};

fn problem(export: Export) -> ExportProblem {
    match Exports::new(PAYLOAD_BYTES_MAX_USUAL).unwrap().add(export) {
        Err(ExportError::Refused { source, .. }) => source,
        other => panic!("not refused: {other:?}"),
    }
}

fn with_sizes(minimum: u32, preferred: u32, maximum: u32) -> Export {
    Export::new("e", 1 << 20, BlockSize { minimum, preferred, maximum })
}

#[test]
fn an_offer_that_breaks_a_rule_is_refused_by_name() {
    let sized = |size_bytes| Export::new("e", size_bytes, BlockSize::of(512));
    let named = |name: String| Export { name, ..sized(0) };
    let described = |description: String| Export { description, ..sized(0) };
    let fast = Features { fast_zero: true, ..Features::default() };
    assert!(matches!(problem(sized(513)), ExportProblem::Size { size_bytes: 513, minimum: 512 }));
    assert!(matches!(problem(sized(1 << 63)), ExportProblem::Size { .. }));
    for minimum in [0, 3, 1 << 17] {
        assert!(matches!(
            problem(with_sizes(minimum, 1 << 17, 1 << 20)),
            ExportProblem::MinimumBlockSize { .. }
        ));
    }
    for (minimum, preferred) in [(1, 256), (1, 0), (1, 513), (4096, 512)] {
        let sizes = with_sizes(minimum, preferred, 1 << 20);
        assert!(matches!(problem(sizes), ExportProblem::PreferredBlockSize { .. }), "{minimum}, {preferred}");
    }
    assert!(matches!(
        problem(with_sizes(512, 4096, 1024)),
        ExportProblem::MaximumBlockSize { maximum: 1024 }
    ));
    assert!(matches!(problem(named("a\0".to_owned())), ExportProblem::Name(TextProblem::Nul)));
    let long = "a".repeat(4097);
    assert!(matches!(
        problem(named(long.clone())),
        ExportProblem::Name(TextProblem::TooLong { bytes: 4097 })
    ));
    assert!(matches!(problem(described(long)), ExportProblem::Description(TextProblem::TooLong { .. })));
    assert!(matches!(
        problem(Export { features: fast, ..sized(0) }),
        ExportProblem::FastZeroWithoutWriteZeroes
    ));
}

#[test]
fn names_are_unique_and_the_default_is_one_of_them() {
    let export = |name: &str| Export::new(name, 0, BlockSize::of(512));
    let mut exports = Exports::new(PAYLOAD_BYTES_MAX_USUAL).unwrap();
    exports.add(export("a")).unwrap();
    assert!(matches!(exports.add(export("a")), Err(ExportError::NameTaken { .. })));
    assert!(matches!(exports.set_default("b"), Err(ExportError::NoSuchExport { .. })));
    assert!(exports.find("").is_none());
    exports.set_default("a").unwrap();
    assert_eq!(exports.find("").unwrap().name, "a");
    assert!(matches!(exports.add(export("")), Err(ExportError::NameTaken { .. })));

    let mut exports = Exports::new(PAYLOAD_BYTES_MAX_USUAL).unwrap();
    exports.add(export("")).unwrap();
    exports.add(export("a")).unwrap();
    assert!(matches!(exports.set_default("a"), Err(ExportError::NameTaken { .. })));
    assert_eq!(exports.find("").unwrap().name, "");
}

#[test]
fn the_number_of_exports_and_the_payload_are_bounded() {
    for bound in [0, PAYLOAD_BYTES_MAX_LEAST - 1, PAYLOAD_BYTES_MAX_GREATEST + 1] {
        assert!(matches!(Exports::new(bound), Err(ExportError::PayloadBound { .. })));
    }
    let mut exports = Exports::new(PAYLOAD_BYTES_MAX_LEAST).unwrap();
    for number in 0..EXPORTS_MAX {
        exports.add(Export::new(number.to_string(), 0, BlockSize::of(1))).unwrap();
    }
    let more = exports.add(Export::new("more", 0, BlockSize::of(1)));
    assert!(matches!(more, Err(ExportError::TooMany)));
}

#[test]
fn the_maximum_is_whole_blocks_within_the_servers_bound() {
    let mut exports = Exports::new(100_000).unwrap();
    exports.add(Export::new("e", 0, BlockSize::of(4096))).unwrap();
    assert_eq!(exports.find("e").unwrap().block_size.maximum, 24 * 4096);
}
