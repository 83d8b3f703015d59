package lab

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"metalrise.dev/lab/machine"
)

// patternBytes is how much of either end of a disk carries the pattern. A wiped
// partition table, a new file system and a written image all reach into it.
const patternBytes = 1 << 20

// pattern is what the ends of disk d are filled with: a line that says whose it is.
func pattern(d machine.Disk) []byte {
	line := fmt.Sprintf("data on disk %s, to be kept\n", d.Serial)
	return []byte(strings.Repeat(line, patternBytes/len(line)+1)[:patternBytes])
}

func diskPath(s machine.Spec, d machine.Disk) string { return filepath.Join(s.Dir, d.Name+".raw") }

// makeData makes the disks besides the first, with their pattern. Those that are
// there are kept as they are.
func makeData(s machine.Spec) error {
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return fmt.Errorf("server %s: %w", s.Name, err)
	}
	for _, d := range s.Disks[1:] {
		path := diskPath(s, d)
		if _, err := os.Stat(path); err == nil {
			continue
		}
		if err := makePatterned(path, d); err != nil {
			return fmt.Errorf("server %s: disk %s: %w", s.Name, d.Serial, err)
		}
	}
	return nil
}

// makePatterned appears whole or not at all.
func makePatterned(path string, d machine.Disk) error {
	f, err := os.OpenFile(path+".new", os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	text := pattern(d)
	_, first := f.WriteAt(text, 0)
	_, last := f.WriteAt(text, d.SizeBytes-patternBytes)
	if err := errors.Join(first, last, f.Close()); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// untouched reports every disk but the first that is not as it was made.
func untouched(s machine.Spec) error {
	var all []error
	for _, d := range s.Disks[1:] {
		if err := checkPatterned(diskPath(s, d), d); err != nil {
			all = append(all, fmt.Errorf("server %s: disk %s: %w", s.Name, d.Serial, err))
		}
	}
	return errors.Join(all...)
}

// checkPatterned compares a disk with what was put on it: the pattern at both
// ends, and between them nothing. Holes of the sparse file were never written,
// so that only the little data there is gets read.
func checkPatterned(path string, d machine.Disk) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if st.Size() != d.SizeBytes {
		return fmt.Errorf("has %d bytes instead of %d", st.Size(), d.SizeBytes)
	}
	want, got := pattern(d), make([]byte, patternBytes)
	for _, at := range []int64{0, d.SizeBytes - patternBytes} {
		if _, err := f.ReadAt(got, at); err != nil {
			return err
		}
		if !bytes.Equal(got, want) {
			return fmt.Errorf("was written to within %d bytes from %d", patternBytes, at)
		}
	}
	return checkEmpty(f, patternBytes, d.SizeBytes-patternBytes)
}

// checkEmpty finds bytes that are not zero in [at, end).
func checkEmpty(f *os.File, at, end int64) error {
	buf := make([]byte, patternBytes)
	for at < end {
		data, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil // only a hole until the end of the file
		}
		if err != nil {
			return fmt.Errorf("find data: %w", err)
		}
		hole, err := unix.Seek(int(f.Fd()), data, unix.SEEK_HOLE)
		if err != nil {
			return fmt.Errorf("find holes: %w", err)
		}
		for at = data; at < min(hole, end); {
			n, err := f.ReadAt(buf[:min(int64(len(buf)), min(hole, end)-at)], at)
			if err != nil && !errors.Is(err, io.EOF) {
				return err
			}
			if i := bytes.IndexFunc(buf[:n], func(r rune) bool { return r != 0 }); i >= 0 {
				return fmt.Errorf("was written to at byte %d", at+int64(i))
			}
			at += int64(n)
		}
	}
	return nil
}
