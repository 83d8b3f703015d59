package guest

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
)

// What a guest writes on its disk: one block that says what follows, and a
// pattern that only this mark and boot have.
const (
	diskBlock   = 4096
	patternSize = 4 << 20
	diskOpening = "metalrise-guest disk 1 "
)

// errForeign is a disk that holds something that no guest wrote.
var errForeign = errors.New("the disk holds something that is not ours; it is not touched")

// store is a block device, or a file that stands for one.
type store interface {
	io.ReaderAt
	io.WriterAt
}

// readMark tells which mark a disk holds, or Blank. It reads the whole pattern
// into buffer (of patternSize bytes) and is content with no less than all of it.
func readMark(d store, buffer []byte) (Mark, error) {
	head := buffer[:diskBlock]
	if _, err := d.ReadAt(head, 0); err != nil {
		return Mark{}, fmt.Errorf("read the disk: %w", err)
	}
	if bytes.Count(head, []byte{0}) == len(head) {
		return Blank(), nil
	}
	line, _, _ := bytes.Cut(head, []byte("\n"))
	text, ours := strings.CutPrefix(string(line), diskOpening)
	if !ours {
		return Mark{}, errForeign
	}
	mark, err := parseMark(text)
	if err != nil {
		return Mark{}, errForeign
	}
	if _, err := d.ReadAt(buffer, diskBlock); err != nil {
		return Mark{}, fmt.Errorf("read the disk: %w", err)
	}
	want := make([]byte, sha256.Size)
	for at := 0; at < len(buffer); at += sha256.Size {
		if fill(want, mark, at); !bytes.Equal(want, buffer[at:at+sha256.Size]) {
			return Mark{}, fmt.Errorf("the disk gave back other bytes than were written, at byte %d", diskBlock+at)
		}
	}
	return mark, nil
}

// writeMark writes the pattern first and what says so last.
func writeMark(d store, mark Mark, buffer []byte) error {
	for at := 0; at < len(buffer); at += sha256.Size {
		fill(buffer[at:at+sha256.Size], mark, at)
	}
	if _, err := d.WriteAt(buffer, diskBlock); err != nil {
		return fmt.Errorf("write the disk: %w", err)
	}
	head := buffer[:diskBlock]
	clear(head)
	copy(head, diskOpening+mark.text()+"\n")
	if _, err := d.WriteAt(head, 0); err != nil {
		return fmt.Errorf("write the disk: %w", err)
	}
	return nil
}

// fill gives the pattern's bytes at one place.
func fill(to []byte, mark Mark, at int) {
	sum := sha256.Sum256(binary.BigEndian.AppendUint64([]byte(mark.text()), uint64(at)))
	copy(to, sum[:])
}

// keep reads a disk and writes the wanted mark when another one, or none, is on
// it; a mark without a text is not written. tell is given what was found, then what the disk holds.
func keep(d store, want Mark, buffer []byte, tell func(found, holds Mark)) error {
	found, err := readMark(d, buffer)
	if err != nil {
		return err
	}
	tell(found, Mark{})
	if found.Text == want.Text || want.Text == "" {
		tell(found, found)
		return nil
	}
	if err := writeMark(d, want, buffer); err != nil {
		return err
	}
	holds, err := readMark(d, buffer)
	if err != nil {
		return err
	}
	if holds != want {
		return fmt.Errorf("the disk holds %s after %s was written", holds.text(), want.text())
	}
	tell(found, holds)
	return nil
}

var (
	instanceID = regexp.MustCompile(`"?instance[-_]id"?: *"?([A-Za-z0-9.-]{1,63})`)
	userMark   = regexp.MustCompile(regexp.QuoteMeta(UserMark) + ` *([A-Za-z0-9.-]{1,63})`)
)

// cloudWords finds the instance id and our word of the user data in the bytes
// of a cloud-init disk. No file system is read: both stand there as plain text.
func cloudWords(disk []byte) (instance, user string) {
	if m := instanceID.FindSubmatch(disk); m != nil {
		instance = string(m[1])
	}
	if m := userMark.FindSubmatch(disk); m != nil {
		user = string(m[1])
	}
	return instance, user
}
