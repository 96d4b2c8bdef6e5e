//! temporary
use nexus_release::*;
use sample_release::*;
#[tokio::test]
async fn dump() {
    let dir = camino_tempfile::tempdir().unwrap();
    let keys = Keys::generate_with(3, 2).unwrap();
    for defect in Defect::all() {
        let made = SampleRelease::small("1.2.3").with_defect(defect).make(&keys, &dir.path().join("r.zip")).unwrap();
        let options = ExamineOptions { system_version: defect.asked_version().map(str::to_owned), expiry: ExpiryPolicy::Deny, ..ExamineOptions::default() };
        let roots = [TrustedRoot { id: ids::TrustRootId::generate(), root_json: made.root_json.clone() }];
        match examine(&made.path, &roots, &options).await {
            Err(ExamineError::Rejected(f)) => println!("{defect:?}: {}", f.iter().map(|f| format!("[{} {:?}] {}", f.code, f.subject.as_deref().unwrap_or("-"), f.detail)).collect::<Vec<_>>().join("\n      ")),
            other => println!("{defect:?}: {other:?}"),
        }
    }
    let made = SampleRelease::standard("1.2.3");
    let t = std::time::Instant::now();
    let made = made.make(&keys, &dir.path().join("std.zip")).unwrap();
    println!("make standard {:?} {} bytes", t.elapsed(), made.zip_bytes);
    let t = std::time::Instant::now();
    let roots = [TrustedRoot { id: ids::TrustRootId::generate(), root_json: made.root_json.clone() }];
    let r = examine(&made.path, &roots, &ExamineOptions::default()).await.unwrap();
    println!("examine standard {:?} {}", t.elapsed(), r.artifacts.len());
}
