package netboot

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

const (
	// maxWindow and maxWindowBytes bound what one transfer keeps in memory, and
	// what hits a slow receiver at once. At 1468 bytes a block, 64 blocks are
	// 94 KB: at half a millisecond there and back that allows 190 MB/s.
	maxWindow      = 64
	maxWindowBytes = 128 << 10

	firstWait = 500 * time.Millisecond
	maxWait   = 4 * time.Second
	maxTries  = 8 // of one window: some 20 s of silence
)

// errGone is a receiver that ended the transfer; firmware does that after it
// asked for the size.
var errGone = errors.New("the receiver ended the transfer")

// transfer sends one file to one receiver over a connected socket: what others
// send to its port never arrives here (RFC 1350 section 4).
type transfer struct {
	conn  net.Conn
	body  io.ReaderAt
	size  int64
	terms terms

	packet []byte // blocks of a window as packets, one after the other
	ack    [maxRequest]byte
	sent   int64 // bytes acknowledged
}

// last is the number of the last block, counted from 1: the first that is not
// full, so a size that fills its blocks is followed by an empty one.
func (t *transfer) last() int64 { return t.size/int64(t.terms.block) + 1 }

// run sends everything, or tells the peer why not.
func (t *transfer) run() error {
	t.packet = make([]byte, t.terms.window*(4+t.terms.block))
	if t.terms.oack != nil {
		if _, err := t.exchange(t.terms.oack, 0, 0); err != nil {
			return err
		}
	}
	for base := int64(1); base <= t.last(); {
		end := min(base+int64(t.terms.window), t.last()+1)
		window, err := t.load(base, end)
		if err != nil {
			_, _ = t.conn.Write(tftpError(&refusal{tftpUndefined, "the file cannot be read"}))
			return err
		}
		got, err := t.exchange(window, base, end-1)
		if err != nil {
			return err
		}
		base = got + 1
		t.sent = min(got*int64(t.terms.block), t.size)
	}
	return nil
}

// load reads the blocks from base to before end into packets.
func (t *transfer) load(base, end int64) ([]byte, error) {
	n, b := 0, int64(t.terms.block)
	for i := base; i < end; i++ {
		off := (i - 1) * b
		length := int(min(b, t.size-off))
		p := t.packet[n : n+4+length]
		binary.BigEndian.PutUint16(p, opData)
		binary.BigEndian.PutUint16(p[2:], uint16(i)) // goes on at 0 after 65535
		if got, err := t.body.ReadAt(p[4:], off); got < length {
			return nil, fmt.Errorf("read at %d: %w", off, err)
		}
		n += len(p)
	}
	return t.packet[:n], nil
}

// exchange sends packets until a block from first-1 to last is acknowledged that
// moves the transfer on, and returns its number. With first and last 0 the
// packet is the acknowledgement of options.
func (t *transfer) exchange(packets []byte, first, last int64) (int64, error) {
	wait := firstWait
	if t.terms.timeout > 0 {
		wait = time.Duration(t.terms.timeout) * time.Second
	}
	again := true // a repeated acknowledgement may ask for the window once
	for try := 0; try < maxTries; try++ {
		if err := t.write(packets, first); err != nil {
			return 0, err
		}
		deadline := time.Now().Add(wait)
		for {
			n, err := t.read(deadline)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil {
				return 0, err
			}
			got, ok := acknowledged(n, first, last)
			switch {
			case ok && (got >= first || first == 0):
				return got, nil
			case ok && t.terms.window > 1 && again:
				// the first block of the window was lost. Only once per try: answering
				// each repeated acknowledgement would double the traffic for ever
				again = false
				if err := t.write(packets, first); err != nil {
					return 0, err
				}
			}
		}
		again = true
		if t.terms.timeout == 0 {
			wait = min(2*wait, maxWait)
		}
	}
	return 0, fmt.Errorf("no acknowledgement of block %d after %d tries", last, maxTries)
}

// acknowledged places a block number of 16 bits among the blocks that were sent;
// first-1 is the last that was acknowledged before.
func acknowledged(n uint16, first, last int64) (int64, bool) {
	if first == 0 {
		return 0, n == 0
	}
	before := first - 1
	got := before + int64(n-uint16(before))
	return got, got <= last
}

// write sends packets of a window; only its last may be shorter than the others.
func (t *transfer) write(packets []byte, first int64) error {
	step := 4 + t.terms.block
	if first == 0 {
		step = len(packets)
	}
	for len(packets) > 0 {
		n := min(step, len(packets))
		if _, err := t.conn.Write(packets[:n]); err != nil {
			return fmt.Errorf("send: %w", err)
		}
		packets = packets[n:]
	}
	return nil
}

// read waits for an acknowledgement.
func (t *transfer) read(deadline time.Time) (uint16, error) {
	if err := t.conn.SetReadDeadline(deadline); err != nil {
		return 0, err
	}
	for {
		n, err := t.conn.Read(t.ack[:])
		if err != nil {
			return 0, err
		}
		if n < 4 {
			continue
		}
		switch binary.BigEndian.Uint16(t.ack[:]) {
		case opAck:
			return binary.BigEndian.Uint16(t.ack[2:]), nil
		case opError:
			return 0, errGone
		}
	}
}
