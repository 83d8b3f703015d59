package netboot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"
)

// File is something to be sent by TFTP. It is closed after the transfer.
type File struct {
	Name  string // for sightings, without any key
	Guest string // whose it is, or ""
	Body  io.ReaderAt
	Size  int64
	Close func() error // may be nil
}

// Files is the table of what TFTP serves. Names have the form of file names of at
// most 128 bytes: letters, digits, "_", "-" and "."; no implementation may hand
// them to a file system. An unknown name is fs.ErrNotExist.
type Files interface {
	File(name string, peer netip.Addr, now time.Time) (File, error)
}

const (
	// Firmware opens two or three transfers, one after the other, of which some
	// are only questions for the size.
	maxTransfersEach = 8
	// maxTransfers bounds memory: 128 KiB of window each.
	maxTransfers = 512
)

// tftp is a read-only server of RFC 1350 with the options of RFC 2347 to 2349
// and 7440.
type tftp struct {
	conn   *net.UDPConn
	files  Files
	limit  int // largest block in bytes
	rates  *limiter[netip.Addr]
	report *reporter
	log    *slog.Logger
	now    func() time.Time

	wg      sync.WaitGroup
	mu      sync.Mutex
	closed  bool
	running map[net.Conn]netip.AddrPort
	peers   map[netip.AddrPort]bool
	each    map[netip.Addr]int
}

// listenTFTP opens port 69, or another for tests, at one address.
func listenTFTP(ctx context.Context, at netip.AddrPort, files Files, mtu int) (*tftp, error) {
	var lc net.ListenConfig
	conn, err := lc.ListenPacket(ctx, "udp4", at.String())
	if err != nil {
		return nil, fmt.Errorf("serve TFTP on %s: %w", at, err)
	}
	return &tftp{
		conn: conn.(*net.UDPConn), files: files,
		limit:   min(blockMax, mtu-ipHeader-udpHeader-4),
		rates:   newLimiter[netip.Addr](rate{perSecond: 20, burst: 60}, rate{perSecond: 1000, burst: 4000}, 4096),
		log:     slog.New(slog.DiscardHandler),
		report:  newReporter(nil, time.Now),
		now:     time.Now,
		running: map[net.Conn]netip.AddrPort{},
		peers:   map[netip.AddrPort]bool{},
		each:    map[netip.Addr]int{},
	}, nil
}

// run serves until Close.
func (s *tftp) run() {
	buf := make([]byte, maxRequest+1)
	for {
		n, from, err := s.conn.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			s.log.Warn("reading TFTP", "err", err)
			time.Sleep(100 * time.Millisecond)
			continue
		}
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		if !s.rates.allow(from.Addr(), s.now()) {
			continue
		}
		r, err := parseRequest(buf[:n])
		if err == nil {
			err = s.start(r, from)
		}
		var no *refusal
		if errors.As(err, &no) {
			_, _ = s.conn.WriteToUDPAddrPort(tftpError(no), from)
		}
	}
}

// start begins a transfer, or says why not. A request that comes again while its
// transfer runs is one that our first packet crossed.
func (s *tftp) start(r tftpRequest, peer netip.AddrPort) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed || s.peers[peer]:
		return errIgnore
	case len(s.running) >= maxTransfers || s.each[peer.Addr()] >= maxTransfersEach:
		return &refusal{tftpUndefined, "too many transfers, try again"}
	}
	f, err := s.files.File(r.name, peer.Addr(), s.now())
	if errors.Is(err, fs.ErrNotExist) {
		return &refusal{tftpNotFound, "no such file"}
	}
	if err != nil {
		s.log.Warn("file cannot be served by TFTP", "to", peer.String(), "err", err)
		return &refusal{tftpUndefined, "the file cannot be read"}
	}
	self := s.conn.LocalAddr().(*net.UDPAddr)
	conn, err := net.DialUDP("udp4", &net.UDPAddr{IP: self.IP}, net.UDPAddrFromAddrPort(peer))
	if err != nil {
		closeFile(f)
		s.log.Warn("opening a TFTP transfer", "to", peer.String(), "err", err)
		return &refusal{tftpUndefined, "no transfer can be opened, try again"}
	}
	s.running[conn], s.peers[peer] = peer, true
	s.each[peer.Addr()]++
	s.wg.Go(func() { s.transfer(conn, peer, f, r) })
	return nil
}

func (s *tftp) transfer(conn net.Conn, peer netip.AddrPort, f File, r tftpRequest) {
	t := &transfer{conn: conn, body: f.Body, size: f.Size, terms: r.agree(f.Size, s.limit)}
	err := t.run()
	_ = conn.Close()
	closeFile(f)
	s.mu.Lock()
	delete(s.running, conn)
	delete(s.peers, peer)
	if s.each[peer.Addr()]--; s.each[peer.Addr()] == 0 {
		delete(s.each, peer.Addr())
	}
	s.mu.Unlock()
	seen := Sighting{Kind: SightingFetched, Guest: f.Guest, Peer: peer.Addr(), File: f.Name, Bytes: t.sent}
	switch {
	case errors.Is(err, errGone) && t.sent == 0:
		return // it only wanted to know the size
	case err != nil:
		seen.Kind, seen.Text = SightingBroken, err.Error()
	}
	s.report.report(peer.Addr().String()+" "+f.Name, seen)
}

func closeFile(f File) {
	if f.Close != nil {
		_ = f.Close()
	}
}

// Close ends all transfers and returns when nothing runs any more.
func (s *tftp) Close() error {
	err := s.conn.Close()
	s.mu.Lock()
	s.closed = true
	for c := range s.running {
		_ = c.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
	return err
}
