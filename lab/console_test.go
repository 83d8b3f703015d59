package lab

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

func TestConsoleIsBoundedAndFollowed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "console.log")
	l, err := openConsole(path, 100)
	if err != nil {
		t.Fatal(err)
	}
	var all, followed []byte
	at := int64(0)
	for i := range 100 {
		line := fmt.Appendf(nil, "line %03d\n", i)
		all = append(all, line...)
		if _, err := l.Write(line); err != nil {
			t.Fatal(err)
		}
		b, next, err := l.read(at)
		if err != nil {
			t.Fatal(err)
		}
		followed, at = append(followed, b...), next
	}
	if !bytes.Equal(followed, all) {
		t.Errorf("a follower saw %q", followed)
	}
	kept, _, err := l.read(0)
	if err != nil || !bytes.HasSuffix(all, kept) || len(kept) < 100 || len(kept) > 220 {
		t.Errorf("kept %d bytes, %v; want the last 100 to 220", len(kept), err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Write([]byte("late")); err == nil {
		t.Error("a closed console took bytes")
	}
	for _, p := range []string{path, path + ".old"} {
		if st, err := os.Stat(p); err != nil || st.Size() > 110 {
			t.Errorf("%v, %v", st, err)
		}
	}
	// A lab that comes back goes on with what is there.
	if l, err = openConsole(path, 100); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := l.Write([]byte("again\n")); err != nil {
		t.Fatal(err)
	}
	if b, _, err := l.read(0); err != nil || string(b) != string(kept)+"again\n" {
		t.Errorf("after reopening: %q, %v", b, err)
	}
}
