//! Memory that outlives the process that writes it: memfds and mappings of them.

use crate::channel::{check, retry};
use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::ptr::{self, NonNull};
use std::slice;

/// `MFD_NOEXEC_SEAL` (Linux 6.3): can never be made executable.
const NOEXEC_SEAL: libc::c_uint = 0x8;

/// From now on each allocation of a MiB or more is a mapping of its own, of which only what is used takes memory. Without
/// this, glibc takes them from its heap as soon as one was freed, and clears them: LMDB's lists of pages alone, 3 MiB for
/// each file, most of which are never used.
pub fn large_allocations_apart() {
    // SAFETY: sets a number in the allocator; no other thread allocates at a program's start.
    unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 20) };
}

/// A memfd of `len` bytes whose length is fixed for good. No page of it is taken yet.
///
/// # Errors
/// The kernel's: no descriptors left.
pub fn memfd(name: &str, len: u64) -> io::Result<OwnedFd> {
    let fd = create(name)?;
    File::from(fd.try_clone()?).set_len(len)?;
    seal(fd.as_fd(), libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL)?;
    Ok(fd)
}

/// A memfd that holds `content` and can never change.
///
/// # Errors
/// The kernel's: no descriptors left.
pub fn memfd_of(name: &str, content: &[u8]) -> io::Result<OwnedFd> {
    let fd = create(name)?;
    let mut written = 0;
    while written < content.len() {
        let rest = &content[written..];
        // SAFETY: the kernel reads `rest.len()` bytes of `rest`.
        written += retry(|| unsafe {
            libc::pwrite(fd.as_raw_fd(), rest.as_ptr().cast(), rest.len(), (written as u64).cast_signed())
        })?;
    }
    seal(fd.as_fd(), libc::F_SEAL_WRITE | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL)?;
    Ok(fd)
}

/// All of a memfd that [`memfd_of`] made; up to 64 KiB in one allocation, so that who wipes it wipes all. By position:
/// its offset is shared with those who got the same descriptor before. No call but `pread64`, which is all that a
/// collector may do to a file.
///
/// # Errors
/// The kernel's.
pub fn content_of(fd: OwnedFd) -> io::Result<Vec<u8>> {
    let file = File::from(fd);
    let (mut content, mut len) = (vec![0; 64 << 10], 0);
    loop {
        match file.read_at(&mut content[len..], len as u64) {
            Ok(0) => break,
            Ok(read) => len += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if len == content.len() {
            content.resize(len * 2, 0);
        }
    }
    content.truncate(len);
    Ok(content)
}

/// The same memory behind a descriptor that can only read. Needs `/proc`.
///
/// # Errors
/// `/proc` is not mounted.
pub fn reopen_read_only(fd: impl AsFd) -> io::Result<OwnedFd> {
    OpenOptions::new().read(true).open(format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())).map(OwnedFd::from)
}

/// Bytes behind a descriptor.
///
/// # Errors
/// The kernel's.
pub fn len(fd: impl AsFd) -> io::Result<u64> {
    Ok(File::from(fd.as_fd().try_clone_to_owned()?).metadata()?.len())
}

fn create(name: &str) -> io::Result<OwnedFd> {
    let name = CString::new(name)?;
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    // SAFETY: `name` is a C string.
    let fd = check(unsafe { libc::memfd_create(name.as_ptr(), flags | NOEXEC_SEAL) })
        // SAFETY: as above. Older kernels do not know the flag.
        .or_else(|_| check(unsafe { libc::memfd_create(name.as_ptr(), flags) }))?;
    // SAFETY: a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn seal(fd: BorrowedFd, seals: libc::c_int) -> io::Result<()> {
    // SAFETY: F_ADD_SEALS reads no memory.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_ADD_SEALS, seals) }).map(drop)
}

/// A shared mapping of a whole descriptor.
///
/// Another process may write to it at any time: read through the pointer with atomics or volatile copies, never
/// through a reference to plain data.
#[derive(Debug)]
pub struct Mapping {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping belongs to the process, not to a thread; all access goes through raw pointers.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the first `len` bytes of `fd` for reading and writing. Needs no call but `mmap`, so the caller must know
    /// that the descriptor holds that much: access beyond its end ends the process (SIGBUS).
    ///
    /// # Errors
    /// `fd` is read-only; `len` is 0.
    pub fn shared(fd: impl AsFd, len: usize) -> io::Result<Self> {
        Self::of(fd.as_fd(), len, libc::PROT_READ | libc::PROT_WRITE)
    }

    /// As [`shared`](Self::shared), for reading only.
    ///
    /// # Errors
    /// `len` is 0.
    pub fn read_only(fd: impl AsFd, len: usize) -> io::Result<Self> {
        Self::of(fd.as_fd(), len, libc::PROT_READ)
    }

    fn of(fd: BorrowedFd, len: usize, protection: libc::c_int) -> io::Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
        let base = unsafe { libc::mmap(ptr::null_mut(), len, protection, libc::MAP_SHARED, fd.as_raw_fd(), 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).expect("the kernel never maps at 0 unless asked to");
        Ok(Self { base, len })
    }

    /// The bytes of `range`. For parts that only this process writes: what another process may change must be copied
    /// as raw memory from [`base`](Self::base), or read as atomics.
    ///
    /// # Panics
    /// `range` reaches beyond the end.
    pub fn slice(&self, range: Range<usize>) -> &[u8] {
        assert!(range.start <= range.end && range.end <= self.len, "{range:?} lies outside the mapping");
        // SAFETY: inside the mapping, which lives as long as `self`.
        unsafe { slice::from_raw_parts(self.base.as_ptr().add(range.start), range.len()) }
    }

    /// The bytes of `range`, for writing. The caller holds no other slice of the same bytes, and the mapping is
    /// [`shared`](Self::shared) (writing to a read-only one ends the process).
    ///
    /// # Panics
    /// `range` reaches beyond the end.
    #[allow(clippy::mut_from_ref)] // parts of one mapping are written and read side by side; the layout keeps them apart
    pub fn slice_mut(&self, range: Range<usize>) -> &mut [u8] {
        assert!(range.start <= range.end && range.end <= self.len, "{range:?} lies outside the mapping");
        // SAFETY: inside the mapping, which lives as long as `self`; not shared within the process, as the caller says.
        unsafe { slice::from_raw_parts_mut(self.base.as_ptr().add(range.start), range.len()) }
    }

    /// First byte; page aligned. [`len`](Self::len) bytes are mapped until the mapping is dropped.
    pub const fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Bytes.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Never: an empty mapping cannot be made.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Takes the pages of `range` (bytes, widened to whole pages) now, so that writing to them does not fault later.
    ///
    /// # Errors
    /// `InvalidInput` beyond the end or on kernels before 5.14; out of memory.
    pub fn populate_write(&self, range: Range<usize>) -> io::Result<()> {
        self.advise(&range, libc::MADV_POPULATE_WRITE)
    }

    /// As [`populate_write`](Self::populate_write), for reading.
    ///
    /// # Errors
    /// As for [`populate_write`](Self::populate_write).
    pub fn populate_read(&self, range: Range<usize>) -> io::Result<()> {
        self.advise(&range, libc::MADV_POPULATE_READ)
    }

    /// Gives the pages of `range` back to the system, for all processes; they read as zeroes afterwards. `range` must
    /// be whole pages. Needs a writable mapping, and no call beyond `madvise`.
    ///
    /// # Errors
    /// `InvalidInput` for a range that is not whole pages or reaches beyond the end.
    pub fn punch(&self, range: Range<usize>) -> io::Result<()> {
        if !range.start.is_multiple_of(page_size()) || !range.end.is_multiple_of(page_size()) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not whole pages"));
        }
        self.advise(&range, libc::MADV_REMOVE)
    }

    fn advise(&self, range: &Range<usize>, advice: libc::c_int) -> io::Result<()> {
        if range.start > range.end || range.end > self.len {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "beyond the end of the mapping"));
        }
        if range.is_empty() {
            return Ok(());
        }
        let start = range.start / page_size() * page_size();
        // SAFETY: inside the mapping, as just checked; the base is page aligned. What is behind the pages is changed
        // only by MADV_REMOVE, and nobody holds references to it.
        check(unsafe { libc::madvise(self.base.as_ptr().add(start).cast(), range.end - start, advice) }).map(drop)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: made by mmap with this length, unmapped once.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
}

/// Bytes of a page.
pub fn page_size() -> usize {
    // SAFETY: reads no memory. The value comes from the auxiliary vector, no system call.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) as usize }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_one_mapping_writes_the_other_reads() {
        let fd = memfd("test", 1 << 16).unwrap();
        let writer = Mapping::shared(&fd, 1 << 16).unwrap();
        let reader = Mapping::read_only(reopen_read_only(&fd).unwrap(), 1 << 16).unwrap();
        writer.slice_mut(70..73).copy_from_slice(b"abc");
        assert_eq!(reader.slice(70..73), b"abc");
        assert_eq!(len(&fd).unwrap(), 1 << 16);
    }

    #[test]
    fn a_read_only_descriptor_cannot_be_mapped_for_writing() {
        let fd = reopen_read_only(memfd("test", 4096).unwrap()).unwrap();
        assert_eq!(Mapping::shared(&fd, 4096).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    }

    #[test]
    fn the_length_is_fixed_for_good() {
        let file = File::from(memfd("test", 8192).unwrap());
        assert!(file.set_len(4096).is_err());
        assert!(file.set_len(16384).is_err());
    }

    #[test]
    fn a_memfd_of_text_cannot_be_changed() {
        let fd = memfd_of("test", b"[site]").unwrap();
        assert_eq!(len(&fd).unwrap(), 6);
        assert!(Mapping::shared(&fd, 4096).is_err());
    }

    #[test]
    fn all_of_a_memfd_is_read_by_each_that_shares_its_offset() {
        for content in [vec![], b"[site]".to_vec(), vec![7; 64 << 10], vec![7; 300_001]] {
            let fd = memfd_of("test", &content).unwrap();
            for _ in 0..2 {
                assert_eq!(content_of(fd.try_clone().unwrap()).unwrap(), content);
            }
        }
    }

    #[test]
    fn a_hole_reads_as_zeroes_and_gives_its_pages_back() {
        let fd = memfd("test", 1 << 20).unwrap();
        let map = Mapping::shared(&fd, 1 << 20).unwrap();
        let blocks = || {
            use std::os::unix::fs::MetadataExt;
            File::from(fd.try_clone().unwrap()).metadata().unwrap().blocks()
        };
        map.populate_write(0..1 << 20).unwrap();
        assert_eq!(blocks(), (1 << 20) / 512);
        map.slice_mut(page_size()..page_size() + 1)[0] = 7;
        map.punch(page_size()..1 << 20).unwrap();
        assert!(blocks() <= page_size() as u64 / 512);
        assert_eq!(map.slice(page_size()..page_size() + 1), [0]);
        assert!(map.punch(1..page_size()).is_err());
        assert!(map.populate_read(0..(1 << 20) + 1).is_err());
    }
}
