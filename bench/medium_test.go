package bench

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"metalrise.dev/fleet/callhome"
	"metalrise.dev/iso"
)

// blockSize is what virtual drives of BMCs read at once.
const blockSize = 64 << 10

// medium is a virtual drive: it reads an image at an address by blocks, keeps
// them, and tries again for as long as the power is on, as BMCs do.
type medium struct {
	ctx    context.Context //nolint:containedctx // io.ReaderAt has no other way to be stopped
	client *http.Client
	url    string
	size   int64
	blocks map[int64][]byte
}

// openMedium asks for the size of the image. Like most BMCs it does not verify
// who serves it.
func openMedium(ctx context.Context, address string) (*medium, error) {
	m := &medium{ctx: ctx, url: address, blocks: map[int64][]byte{}, client: &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableCompression: true, //nolint:gosec // see above
	}}}
	head := func() error {
		r, err := m.ask(http.MethodHead, "")
		if err != nil {
			return err
		}
		defer r.Body.Close()
		if r.StatusCode != http.StatusOK {
			return fmt.Errorf("size of the medium: %s", r.Status)
		}
		m.size = r.ContentLength
		return nil
	}
	return m, insist(ctx, head)
}

func (m *medium) close() { m.client.CloseIdleConnections() }

func (m *medium) ask(method, span string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(m.ctx, method, m.url, nil)
	if err != nil {
		return nil, err
	}
	if span != "" {
		req.Header.Set("Range", span)
	}
	return m.client.Do(req)
}

// ReadAt implements io.ReaderAt.
func (m *medium) ReadAt(p []byte, off int64) (int, error) {
	n := 0
	for n < len(p) && off < m.size {
		b, err := m.block(off / blockSize)
		if err != nil {
			return n, err
		}
		k := copy(p[n:], b[off%blockSize:])
		n, off = n+k, off+int64(k)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (m *medium) block(i int64) ([]byte, error) {
	if b := m.blocks[i]; b != nil {
		return b, nil
	}
	first := i * blockSize
	last := min(first+blockSize, m.size) - 1
	read := func() error {
		r, err := m.ask(http.MethodGet, fmt.Sprintf("bytes=%d-%d", first, last))
		if err != nil {
			return err
		}
		defer r.Body.Close()
		if r.StatusCode != http.StatusPartialContent {
			return fmt.Errorf("read the medium: %s", r.Status)
		}
		b := make([]byte, last-first+1)
		if _, err := io.ReadFull(r.Body, b); err != nil {
			return err
		}
		m.blocks[i] = b
		return nil
	}
	err := insist(m.ctx, read)
	return m.blocks[i], err
}

// insist repeats f until it succeeds or ctx ends.
func insist(ctx context.Context, f func() error) error {
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		}
	}
}

// config reads the Ignition config as the initramfs of a live system does.
func (m *medium) config() ([]byte, error) { return iso.ReadIgnition(m, m.size) }

// firstBoot is what a booting system takes out of its Ignition config: the
// ticket, and what its script fetches the agent by.
type firstBoot struct {
	ticket   callhome.Ticket
	agentURL string
	agentSum string
}

var (
	scriptURL = regexp.MustCompile(`(?m)^url='([^']+)'$`)
	scriptSum = regexp.MustCompile(`(?m)^sum='([0-9a-f]{64})'$`)
)

// readConfig understands of an Ignition config what firstBoot needs.
func readConfig(raw []byte) (firstBoot, error) {
	var out firstBoot
	var c struct {
		Storage struct {
			Files []struct {
				Path     string
				Contents struct{ Source string }
			}
		}
	}
	if err := json.Unmarshal(raw, &c); err != nil {
		return out, fmt.Errorf("ignition config: %w", err)
	}
	found := false
	for _, f := range c.Storage.Files {
		text, err := url.PathUnescape(strings.TrimPrefix(f.Contents.Source, "data:,"))
		if err != nil {
			return out, fmt.Errorf("ignition config: file %s: %w", f.Path, err)
		}
		if f.Path == callhome.TicketPath {
			if err := json.Unmarshal([]byte(text), &out.ticket); err != nil {
				return out, fmt.Errorf("ticket: %w", err)
			}
			found = true
		}
		if m := scriptURL.FindStringSubmatch(text); m != nil {
			out.agentURL = m[1]
		}
		if m := scriptSum.FindStringSubmatch(text); m != nil {
			out.agentSum = m[1]
		}
	}
	if !found || out.agentURL == "" || out.agentSum == "" {
		return out, errors.New("ignition config: it lacks the ticket or the script that fetches the agent")
	}
	return out, nil
}

// fetchAgent does what the script does: it fetches the agent program from the
// authority's server only, and compares its digest.
func (f firstBoot) fetchAgent(ctx context.Context) error {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(f.ticket.CA))
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	defer client.CloseIdleConnections()
	return insist(ctx, func() error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.agentURL, nil)
		if err != nil {
			return err
		}
		r, err := client.Do(req)
		if err != nil {
			return err
		}
		defer r.Body.Close()
		h := sha256.New()
		if _, err := io.Copy(h, r.Body); err != nil {
			return err
		}
		if got := hex.EncodeToString(h.Sum(nil)); r.StatusCode != http.StatusOK || got != f.agentSum {
			return fmt.Errorf("agent program: %s, sha256 %s", r.Status, got)
		}
		return nil
	})
}
