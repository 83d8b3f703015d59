package qemu

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// monitor speaks QEMU's machine protocol (QMP) over one connected socket, so
// that no path can be too long or left behind.
type monitor struct {
	conn net.Conn
	// shutdown receives the reason of the SHUTDOWN event and is closed when the
	// connection ends. It holds one, the last that matters.
	shutdown chan string
	replies  chan reply
	commands sync.Mutex // one command at a time
}

type reply struct {
	Return json.RawMessage `json:"return"`
	Error  *struct {
		Class string `json:"class"`
		Desc  string `json:"desc"`
	} `json:"error"`
	Event string `json:"event"`
	Data  struct {
		Reason string `json:"reason"`
	} `json:"data"`
	Greeting json.RawMessage `json:"QMP"`
}

// newMonitor returns our end of a monitor connection and the end to give to QEMU.
func newMonitor() (*monitor, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("monitor socket: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "qmp"), os.NewFile(uintptr(fds[1]), "qmp-qemu")
	defer ours.Close() // FileConn duplicates it
	conn, err := net.FileConn(ours)
	if err != nil {
		theirs.Close()
		return nil, nil, fmt.Errorf("monitor socket: %w", err)
	}
	return &monitor{conn: conn, shutdown: make(chan string, 1), replies: make(chan reply)}, theirs, nil
}

// listen reads until the connection ends. QEMU is our own child, but what it
// sends is bounded all the same.
func (m *monitor) listen() {
	defer close(m.replies)
	defer close(m.shutdown)
	decoder := json.NewDecoder(io.LimitReader(m.conn, 64<<20))
	for {
		var r reply
		if err := decoder.Decode(&r); err != nil {
			return
		}
		switch {
		case r.Event == "SHUTDOWN":
			select {
			case m.shutdown <- r.Data.Reason:
			default:
			}
		case r.Event == "" && r.Greeting == nil:
			m.replies <- r
		}
	}
}

var errMonitorGone = errors.New("the machine's monitor is gone")

// execute runs one command and waits for its answer. It ends when the
// connection does, which it does when QEMU ends.
func (m *monitor) execute(command string, arguments any) error {
	m.commands.Lock()
	defer m.commands.Unlock()
	request := map[string]any{"execute": command}
	if arguments != nil {
		request["arguments"] = arguments
	}
	data, err := json.Marshal(request)
	if err != nil {
		return err
	}
	if _, err := m.conn.Write(append(data, '\n')); err != nil {
		return fmt.Errorf("%s: %w", command, errMonitorGone)
	}
	r, ok := <-m.replies
	if !ok {
		return fmt.Errorf("%s: %w", command, errMonitorGone)
	}
	if r.Error != nil {
		return fmt.Errorf("%s: %s: %s", command, r.Error.Class, r.Error.Desc)
	}
	return nil
}
