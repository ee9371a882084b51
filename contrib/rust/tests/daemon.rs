// SPDX-License-Identifier: MIT
//! With a daemon on tests/fixd.ini; tests/daemon/rust.py of fixd starts it.
use std::io::ErrorKind;
use std::path::Path;
use std::process::exit;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use fixd::{Fixd, Options};

extern "C" {
    fn fork() -> i32;
    fn waitpid(pid: i32, status: *mut i32, flags: i32) -> i32;
}

const WORDS: &[u8] = b"apple\nbanana\ncherry\n";

fn has_daemon() -> bool {
    std::env::var_os("FIXD_SOCKET").is_some()
}

/// Its status in a forked child.
fn in_child(work: impl FnOnce() -> i32) -> i32 {
    let mut status = 0;
    unsafe {
        let pid = fork();
        if pid == 0 {
            exit(work());
        }
        assert_eq!(waitpid(pid, &mut status, 0), pid);
    }
    status >> 8
}

#[test]
fn bytes_are_shared() {
    if !has_daemon() {
        return;
    }
    let view = fixd::get("corpus");
    assert_eq!(&view[..], WORDS);
    assert_eq!(view.as_ptr(), fixd::get("corpus").as_ptr());
    assert!(view.is_current() && view.path().is_none() && view.generation() == 1 && view.was_reused());
    assert!(fixd::get("server").text().starts_with("at /"));
}

#[test]
fn private_bytes_are_put_back() {
    if !has_daemon() {
        return;
    }
    let mut words = fixd::private("corpus");
    let other = fixd::private("corpus");
    for _ in 0..2 {
        words[..5].copy_from_slice(b"APPLE");
        words[6] = b'B';
        assert_eq!(words.changes().unwrap(), [0..5, 6..7]);
        assert_eq!(&other[..], WORDS);
        assert_eq!(words.reset().unwrap(), 1);
        assert_eq!(&words[..], WORDS);
    }
}

#[test]
fn values_have_types() {
    if !has_daemon() {
        return;
    }
    let mut numbers = fixd::private("numbers");
    assert_eq!(numbers.values::<u16>(), [1, 2, 3, 4]);
    assert_eq!(numbers.values::<[u8; 2]>()[1], [2, 0]);
    numbers.values_mut::<u16>()[3] = 9;
    assert_eq!(numbers.values::<u64>(), [0x0009_0003_0002_0001]);
    let odd = thread::spawn(|| fixd::own("odd").values::<u32>().len());
    assert!(odd.join().is_err());
}

#[repr(C)]
struct Node {
    next: *mut Node,
    value: i64,
}

#[test]
fn objects_are_used_as_they_were_built() {
    if !has_daemon() {
        return;
    }
    let f = Fixd::open().unwrap();
    {
        let graph = f.attach("graph").unwrap();
        let mut sum = 0;
        let mut node: *const Node = unsafe { graph.root::<Node>() };
        while let Some(n) = unsafe { node.as_ref() } {
            sum += n.value;
            node = n.next;
        }
        assert_eq!(sum, 6);
        assert_eq!(f.attach_private("graph").unwrap_err().errno(), 16);
    }
    let mut graph = f.attach_private("graph").unwrap();
    unsafe { graph.root_mut::<Node>() }.value = 100;
    assert_eq!(f.attach_private("graph").unwrap_err().errno(), 16);
    graph.reset().unwrap();
    assert_eq!(unsafe { graph.root::<Node>() }.value, 3);
}

#[test]
fn each_has_a_clone() {
    if !has_daemon() {
        return;
    }
    let (a, b) = (fixd::own("own"), fixd::own("own"));
    assert_ne!(a.text(), b.text());
    std::fs::remove_file(Path::new(a.text()).join("words")).unwrap();
    drop(a);
    assert!(Path::new(fixd::own("own").text()).join("words").exists());
}

#[test]
fn trees_stay_files() {
    if !has_daemon() {
        return;
    }
    assert_eq!(std::fs::read(fixd::own("list").path().unwrap().join("words")).unwrap(), b"apple\nbanana\n");
}

#[test]
fn errors_say_why() {
    if !has_daemon() {
        return;
    }
    let f = Fixd::open().unwrap();
    let broken = f.attach("broken").unwrap_err();
    assert!(broken.errno() == 5 && broken.to_string().contains("there is no such word"), "{broken}");
    assert_eq!(f.attach("nothing").unwrap_err().kind(), ErrorKind::NotFound);
    assert!(f.attach("a\0b").unwrap_err().to_string().contains("NUL"));
    let soon = Options { timeout: Some(Duration::from_millis(20)), ..Options::default() };
    assert_eq!(f.attach_with("slow", &soon).unwrap_err().kind(), ErrorKind::TimedOut);
    let nobody = Fixd::open_at("/nowhere/socket").map(|_| ()).unwrap_err();
    assert!(nobody.to_string().contains("no daemon at /nowhere/socket"), "{nobody}");
}

#[test]
fn keys_name_the_test() {
    if !has_daemon() {
        return;
    }
    assert_eq!(fixd::own("key").text(), "fixd/daemon::keys_name_the_test");
    let options = Options { scope_key: Some("a/b::c".into()), ..Options::default() };
    assert_eq!(Fixd::open().unwrap().attach_with("key", &options).unwrap().text(), "a/b::c");
}

#[test]
fn a_child_has_its_own() {
    if !has_daemon() {
        return;
    }
    let mut words = fixd::private("corpus");
    let status = in_child(|| {
        words[0] = b'A';
        let mine = words[0] == b'A' && words.reset().is_ok() && words[0] == b'a';
        (!mine || fixd::own("corpus")[..] != *WORDS) as i32
    });
    assert_eq!((status, words[0]), (0, b'a'));
}

/// Another thread waits with the connection locked: the child gets one of its own.
#[test]
fn a_child_is_not_locked_out() {
    if !has_daemon() {
        return;
    }
    let f = Fixd::open().unwrap();
    let held = f.attach("corpus").unwrap();
    let (waits, waiting) = mpsc::channel();
    let other = f.clone();
    let thread = thread::spawn(move || {
        let patient = Options { timeout: Some(Duration::from_secs(600)), ..Options::default() };
        waits.send(()).unwrap();
        other.attach_with("gated", &patient).unwrap().len()
    });
    waiting.recv().unwrap();
    // It has asked when the build runs, which opens the gate.
    let gate = std::env::var("GATE").unwrap();
    let mut opened = std::fs::OpenOptions::new().write(true).open(gate).unwrap();
    let in_time = in_child(|| f.attach("corpus").map_or(1, |v| (v[..] != held[..]) as i32));
    assert_eq!(in_time, 0);
    std::io::Write::write_all(&mut opened, b"open").unwrap();
    drop(opened);
    assert_eq!(thread.join().unwrap(), 4);
}
