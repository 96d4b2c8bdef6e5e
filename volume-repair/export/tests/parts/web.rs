//! A web server that is as it should be, or is not.

use std::{
    io::{BufRead, BufReader, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

/// What it has, and what is wrong with it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Manners {
    pub(crate) content: Vec<u8>,
    pub(crate) tag: Option<String>,
    pub(crate) modified: Option<String>,
    pub(crate) ignores_ranges: bool,
    /// This instead of anything else, so many times.
    pub(crate) status: Option<(&'static str, u32)>,
    /// Answers end in the middle, so many times.
    pub(crate) breaks_off: u32,
    /// Says that it is another range.
    pub(crate) shifts: bool,
    pub(crate) encoding: Option<&'static str>,
    /// What it was asked: ranges, and what opens the door.
    pub(crate) asked: Vec<String>,
}

/// A web server on this machine.
pub(crate) struct Web {
    address: SocketAddr,
    manners: Arc<Mutex<Manners>>,
    ends: Arc<AtomicBool>,
    listener: TcpListener,
    thread: Option<JoinHandle<()>>,
}

impl Web {
    pub(crate) fn start(manners: Manners) -> Web {
        Web::start_at("127.0.0.1:0".parse().unwrap(), Arc::new(Mutex::new(manners)))
    }

    fn start_at(address: SocketAddr, manners: Arc<Mutex<Manners>>) -> Web {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let ends = Arc::new(AtomicBool::new(false));
        let serve = {
            let (listener, manners, ends) =
                (listener.try_clone().unwrap(), Arc::clone(&manners), Arc::clone(&ends));
            move || {
                while let Ok((socket, _)) = listener.accept() {
                    if ends.load(Ordering::SeqCst) {
                        return;
                    }
                    // One whose client is gone in the middle is nobody's trouble.
                    let _ = answer(socket, &manners);
                }
            }
        };
        let thread = Some(thread::spawn(serve));
        Web { address, manners, ends, listener, thread }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/base.img", self.address)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Manners)) {
        change(&mut self.manners.lock().unwrap());
    }

    pub(crate) fn manners(&self) -> Manners {
        self.manners.lock().unwrap().clone()
    }

    /// Ends, and lets another one begin at the same address.
    pub(crate) fn stop(self) -> impl FnOnce() -> Web {
        let (address, manners) = (self.address, Arc::clone(&self.manners));
        drop(self);
        move || Web::start_at(address, manners)
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::SeqCst);
        // It waits in accept, and this ends that.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let _ = &self.listener;
    }
}

/// One request, one answer, one connection.
fn answer(mut socket: TcpStream, manners: &Mutex<Manners>) -> std::io::Result<()> {
    let mut range = None;
    let mut asked = String::new();
    for line in BufReader::new(socket.try_clone()?).lines() {
        let line = line?.to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(text) = line.strip_prefix("range: bytes=") {
            range = text.split_once('-').and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
        }
        if line.starts_with("range:") || line.starts_with("authorization:") {
            asked = format!("{asked}{line};");
        }
    }
    let mut manners = manners.lock().unwrap();
    manners.asked.push(asked);
    if let Some((status, times)) = manners.status.take() {
        manners.status = (times > 1).then_some((status, times - 1));
        write!(socket, "HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")?;
        return socket.shutdown(Shutdown::Both);
    }
    let size = manners.content.len();
    let (from, to): (usize, usize) = range.filter(|_| !manners.ignores_ranges).unwrap_or((0, size - 1));
    let mut head = if range.is_some() && !manners.ignores_ranges {
        let shift = usize::from(manners.shifts);
        format!(
            "HTTP/1.1 206 Partial Content\r\ncontent-range: bytes {}-{}/{size}\r\n",
            from + shift,
            to + shift
        )
    } else {
        "HTTP/1.1 200 OK\r\n".to_owned()
    };
    let tag = manners.tag.iter().map(|tag| format!("etag: {tag}\r\n"));
    let modified = manners.modified.iter().map(|modified| format!("last-modified: {modified}\r\n"));
    let encoding = manners.encoding.iter().map(|encoding| format!("content-encoding: {encoding}\r\n"));
    head.extend(tag.chain(modified).chain(encoding));
    let bytes = &manners.content[from..=to];
    write!(socket, "{head}content-length: {}\r\nconnection: close\r\n\r\n", bytes.len())?;
    if manners.breaks_off > 0 {
        socket.write_all(&bytes[..bytes.len() / 2])?;
        manners.breaks_off -= 1;
    } else {
        socket.write_all(bytes)?;
    }
    socket.shutdown(Shutdown::Both)
}
