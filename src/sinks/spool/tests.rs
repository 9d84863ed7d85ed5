use super::{
    manifest::{archive, manifest_of},
    *,
};

const BYTES: &[u8] = b"{\"id\":\"a\"}\n{\"id\":\"b\"}\n";

fn spool_with_room(dir: &Path, room_bytes: u64) -> Spool {
    let settings = SpoolSettings {
        dir: dir.join("spool/archive"),
        room: Room::asking(move |bytes| Ok(bytes <= room_bytes)),
    };
    Spool::new(settings, archive(), 2 * BYTES.len() as u64)
}

fn spool(dir: &Path) -> Spool {
    spool_with_room(dir, 10_000)
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir.join("spool/archive")).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn held(spool: &Spool, sequences: &[u64]) -> Vec<bool> {
    spool.holding(sequences).unwrap().iter().map(Option::is_some).collect()
}

#[test]
fn the_next_process_finds_the_very_bytes() {
    let dir = tempfile::tempdir().unwrap();
    spool(dir.path()).add(manifest_of(BYTES, &[3, 5]), BYTES).unwrap();
    let next = spool(dir.path());
    assert_eq!(held(&next, &[2, 3, 4, 5, 6]), [false, true, false, true, false]);
    let found = next.holding(&[5]).unwrap().remove(0).unwrap();
    assert_eq!(found.manifest, manifest_of(BYTES, &[3, 5]));
    assert_eq!(next.read(&found).unwrap().unwrap(), BYTES);
    assert!(!found.is_uploaded(), "nobody knows");
}

#[test]
fn what_is_settled_goes_at_once_or_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let this = spool(dir.path());
    this.add(manifest_of(BYTES, &[3, 5]), BYTES).unwrap();
    this.add(manifest_of(BYTES, &[4, 9]), BYTES).unwrap();
    this.settled(4).unwrap();
    assert_eq!(names(dir.path()).len(), 2, "5 and 9 are still to come");
    this.settled(5).unwrap();
    assert_eq!(held(&this, &[3, 4, 9]), [false, true, true]);
    assert_eq!(names(dir.path()).len(), 1);
    let next = spool(dir.path());
    next.settled(9).unwrap();
    assert_eq!(held(&next, &[4, 9]), [false, false]);
    assert!(names(dir.path()).is_empty());
}

#[test]
fn every_flipped_bit_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let object = spool(dir.path()).add(manifest_of(BYTES, &[3, 5]), BYTES).unwrap();
    let path = dir.path().join("spool/archive").join(object.manifest.file_name());
    let whole = fs::read(&path).unwrap();
    let head_bytes = whole.len() - BYTES.len();
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        fs::write(&path, &damaged).unwrap();
        let next = spool(dir.path());
        let found = next.holding(&[3]).unwrap().remove(0);
        if at < head_bytes {
            assert!(found.is_none(), "byte {at}");
            assert!(names(dir.path())[0].ends_with(".damaged"));
        } else {
            assert_eq!(next.read(&found.unwrap()).unwrap(), None, "byte {at}");
        }
    }
    fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    assert_eq!(spool(dir.path()).read(&object).unwrap(), None, "cut off");
    fs::write(&path, [&whole[..], b"x"].concat()).unwrap();
    assert_eq!(spool(dir.path()).read(&object).unwrap(), None, "longer");
    fs::remove_file(&path).unwrap();
    assert_eq!(spool(dir.path()).read(&object).unwrap(), None, "gone");
}

#[test]
fn half_a_file_is_none_and_one_for_another_place_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let this = spool(dir.path());
    let mut elsewhere = manifest_of(BYTES, &[3, 5]);
    elsewhere.target.prefix = "other".to_owned();
    this.add(elsewhere, BYTES).unwrap();
    fs::write(dir.path().join("spool/archive/x.spooled.tmp"), b"turnstiled-spool-1").unwrap();
    fs::write(dir.path().join("spool/archive/notes.txt"), b"not ours").unwrap();
    assert_eq!(held(&spool(dir.path()), &[3]), [false]);
    assert_eq!(names(dir.path()), ["notes.txt"]);
}

#[test]
fn without_room_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let this = spool_with_room(dir.path(), 30);
    let error = this.add(manifest_of(BYTES, &[3]), BYTES).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert_eq!(held(&this, &[3]), [false]);
    assert!(names(dir.path()).is_empty());
}

#[test]
fn a_forgotten_object_is_formed_anew() {
    let dir = tempfile::tempdir().unwrap();
    let this = spool(dir.path());
    let object = this.add(manifest_of(BYTES, &[3]), BYTES).unwrap();
    this.forget(&object).unwrap();
    assert_eq!(held(&this, &[3]), [false]);
    fs::remove_dir(dir.path().join("spool/archive")).unwrap();
    this.add(manifest_of(BYTES, &[3]), BYTES).unwrap();
    assert_eq!(held(&spool(dir.path()), &[3]), [true], "the directory is made anew");
}

#[test]
fn so_much_that_is_uploaded_and_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let this = spool(dir.path());
    for sequence in 1..=3 {
        this.add(manifest_of(BYTES, &[sequence]), BYTES).unwrap();
    }
    let objects = this.holding(&[1, 2, 3]).unwrap();
    objects[..2].iter().flatten().for_each(|object| object.set_uploaded());
    let error = this.add(manifest_of(BYTES, &[4]), BYTES).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ResourceBusy);
    assert_eq!(names(dir.path()).len(), 3);
    this.settled(1).unwrap();
    this.add(manifest_of(BYTES, &[4]), BYTES).unwrap();
}

#[test]
fn what_is_left_of_a_disk_is_asked_while_nobody_else_writes() {
    let dir = tempfile::tempdir().unwrap();
    let writing = Arc::new(Mutex::new(()));
    let seen = Arc::clone(&writing);
    let room = Room { has_room_for: Arc::new(move |_| Ok(seen.try_lock().is_err())), writing };
    for name in ["one", "other"] {
        let settings = SpoolSettings { dir: dir.path().join(name), room: room.clone() };
        Spool::new(settings, archive(), u64::MAX).add(manifest_of(BYTES, &[1]), BYTES).unwrap();
    }
}
