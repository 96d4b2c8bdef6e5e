//! What fills a volume: bytes that are sent, and what a web server has.

use super::{BLOCK, SIZE, attached, content, ended, head, id, import, import_from, is, read, sha256, whole};
use crate::{
    agent::Agent,
    web::{Manner, Web},
};
use ids::JobId;
use problem::Code;
use sled_client::pantry::{ImportQuery, ImportRequest, PantryJobState};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use volume_repair::ConstructionRequest;

#[tokio::test]
async fn an_import_that_is_too_long_too_short_or_stops_is_told_so_by_code() {
    let agent = Agent::served(3).await;
    let request = attached(&agent).await;
    let (all, first) = (content(4), content(5));
    import(&agent, &request, &whole(), &first).await.unwrap();
    let too_long = [&all[..], &[0; BLOCK as usize]].concat();
    is(import(&agent, &request, &whole(), &too_long).await, Code::ImportTooLong);
    is(import(&agent, &request, &whole(), &all[BLOCK as usize..]).await, Code::ImportTooShort);
    let sized = |size_bytes| ImportQuery { size_bytes: Some(size_bytes), ..whole() };
    is(import(&agent, &request, &sized(8192), &all[..4096]).await, Code::ImportTooShort);
    is(import(&agent, &request, &sized(4096), &all[..8192]).await, Code::ImportTooLong);
    is(import(&agent, &request, &sized(5000), &all[..5000]).await, Code::ImportSize);
    is(import(&agent, &request, &sized(too_long.len() as u64), &too_long).await, Code::ImportTooLong);
    assert!(agent.client.pantry_jobs(id(&request)).await.unwrap().items.len() == 1, "none has begun");
    assert_eq!(status_of(&agent, &request, "transfer-encoding: chunked", b"1000\r\n").await, "411");
    // Known before a byte of it was sent.
    let announced = format!("content-length: {}", too_long.len());
    assert_eq!(status_of(&agent, &request, &announced, b"").await, "413");
    assert!(read(&agent, &request).await == first, "nothing has changed");

    // It stops: its sender is gone in the middle, and the job says how far it came.
    let stops = JobId::generate();
    let half = 2_500_000;
    stop_in_the_middle(&agent, &request, stops, &all[..half]).await;
    let job = ended(&agent, &request, stops).await;
    assert_eq!((job.state, job.error.unwrap().code), (PantryJobState::Failed, "import_stopped".to_owned()));
    let written = usize::try_from(job.bytes_done).unwrap();
    assert!(written > 1 << 20 && written <= half && job.bytes == SIZE as u64, "{written}");
    let mixed = read(&agent, &request).await;
    assert!(mixed[..written] == all[..written] && mixed[written..] == first[written..]);

    // Other bytes than were said.
    let wrong = ImportQuery { sha256: Some(sha256(&first)), job_id: Some(JobId::generate()), ..whole() };
    is(import(&agent, &request, &wrong, &all).await, Code::DigestMismatch);
    // Whole; a part; and again under the same id, of which nothing is read.
    let right = ImportQuery { sha256: Some(sha256(&all)), job_id: Some(JobId::generate()), ..whole() };
    let job = import(&agent, &request, &right, &all).await.unwrap();
    assert_eq!((job.state, job.sha256, job.bytes_done), (PantryJobState::Done, right.sha256, SIZE as u64));
    let again = import(&agent, &request, &right, &first).await.unwrap();
    assert_eq!((again.id, again.ended), (job.id, job.ended));
    is(import(&agent, &request, &ImportQuery { sha256: None, ..right }, &all).await, Code::PantryJobConflict);
    assert!(read(&agent, &request).await == all);
    import(&agent, &request, &sized(8192), &first[..8192]).await.unwrap();
    assert!(read(&agent, &request).await == [&first[..8192], &all[8192..]].concat());
}

/// Sends the beginning of an import that says this of its length, and waits; the status of the answer.
async fn status_of(agent: &Agent, request: &ConstructionRequest, length: &str, body: &[u8]) -> String {
    let (address, head) = head(agent, request, "", length);
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(&head).await.unwrap();
    socket.write_all(body).await.unwrap();
    let mut answer = [0; 12];
    socket.read_exact(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer[9..]).into_owned()
}

/// Sends the beginning of an import of all bytes; once the job has some of them in, the sender is gone.
async fn stop_in_the_middle(agent: &Agent, request: &ConstructionRequest, job: JobId, bytes: &[u8]) {
    let length = format!("content-length: {SIZE}");
    let (address, head) = head(agent, request, &format!("&job_id={job}"), &length);
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(&[&head, bytes].concat()).await.unwrap();
    agent
        .eventually(async || match agent.client.pantry_job(id(request), job, Duration::ZERO).await {
            Ok(job) if job.bytes_done > 0 => Ok(()),
            other => Err(other),
        })
        .await;
}

#[tokio::test]
async fn what_a_web_server_has_is_imported_also_if_it_breaks_off_and_refused_if_it_is_something_else() {
    let agent = Agent::served(3).await;
    let request = attached(&agent).await;
    let all = content(6);
    let order = |web: &Web| ImportRequest {
        job_id: Some(JobId::generate()),
        sha256: Some(sha256(&all)),
        ..import_from(web)
    };
    let run = async |web: &Web| {
        let job = agent.client.pantry_import_url(id(&request), &order(web)).await.unwrap();
        ended(&agent, &request, job.id).await
    };
    // Other lengths than were said: nothing is written.
    let before = read(&agent, &request).await;
    for (length, expected) in [(SIZE + 512, "import_too_long"), (SIZE - 4096, "import_too_short")] {
        let mut other = all.clone();
        other.resize(length, 0);
        let job = run(&Web::start(other, &[]).await).await;
        assert_eq!(
            (job.state, job.error.unwrap().code, job.bytes_done),
            (PantryJobState::Failed, expected.to_owned(), 0)
        );
    }
    let nobody =
        ImportRequest { url: "http://127.0.0.1:9/x".to_owned(), ..order(&Web::start(Vec::new(), &[]).await) };
    let job = agent.client.pantry_import_url(id(&request), &nobody).await.unwrap();
    let job = ended(&agent, &request, job.id).await;
    assert_eq!(job.error.unwrap().code, "import_source_failed");
    let ftp = ImportRequest { url: "ftp://h/x".to_owned(), ..nobody };
    is(agent.client.pantry_import_url(id(&request), &ftp).await, Code::BadRequest);
    assert!(read(&agent, &request).await == before);
    // It breaks off, and cannot be known again; or is something else by then.
    for manners in [
        [Manner::Unnamed(2_000_000), Manner::Unnamed(SIZE)],
        [Manner::BreaksOffAt(2_000_000), Manner::Changed],
    ] {
        let job = run(&Web::start(all.clone(), &manners).await).await;
        let error = job.error.unwrap();
        assert_eq!(error.code, "import_stopped");
        assert!(!error.detail.contains("secret"), "{}", error.detail);
        assert!(job.bytes_done > 0 && job.bytes_done < 2_000_000, "{}", job.bytes_done);
    }
    // It breaks off twice, and goes on where it was.
    let web =
        Web::start(all.clone(), &[Manner::BreaksOffAt(1_500_000), Manner::BreaksOffAt(3_500_000)]).await;
    let job = run(&web).await;
    assert_eq!((job.state, job.sha256), (PantryJobState::Done, Some(sha256(&all))), "{:?}", job.error);
    let asked = web.asked.lock().unwrap().clone();
    assert!(matches!(asked[..], [None, Some(_), Some(_)]), "{asked:?}");
    // From the sled's own address, so that whoever cuts the sled off cuts this off.
    assert_eq!(*web.askers.lock().unwrap(), [agent.ip()].into());
    assert!(read(&agent, &request).await == all);
}
