package container

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	rootfsArg  = "coreos.live.rootfs_url="
	digestName = "etc/rootfs.sha256" // as the lab's node image has it
	maxRootfs  = 4 << 30
	// fetchPatience is for how long an address is tried that does not answer.
	fetchPatience = time.Minute
)

// fetchRoot does what the initramfs of a minimal medium does: it fetches the root
// file system that the kernel arguments name, and takes only the one whose digest
// the initramfs has. It gives the file, "" when no address is named.
//
// It is fetched from this computer, not from inside the machine's network. A
// medium that brings no network for its initramfs is refused, as that would wait
// for an address that nobody gives.
func (r *run) fetchRoot(ctx context.Context, img *isoImage, args []string, area embedded) (string, error) {
	url := ""
	for _, a := range args {
		if u, ok := strings.CutPrefix(a, rootfsArg); ok {
			url = u
		}
	}
	if url == "" {
		return "", nil
	}
	want, err := wantedRoot(img)
	if err != nil {
		return "", &notBootable{err.Error()}
	}
	if !bringsNetwork(area.Keyfiles) {
		return "", &notBootable{"its root file system is to be fetched, and no keyfile gives its initramfs an address"}
	}
	path := filepath.Join(r.m.spec.Dir, "rootfs.img")
	ctx, cancel := context.WithTimeout(ctx, fetchPatience+30*time.Minute)
	defer cancel()
	for end := time.Now().Add(fetchPatience); ; {
		got, err := fetch(ctx, url, path)
		if err == nil && got != want {
			err = &notBootable{fmt.Sprintf("the fetched root file system has the SHA-256 %s, its initramfs wants %s", got, want)}
		}
		if err == nil {
			r.out.say("initramfs: the root file system was fetched, and is the one that belongs to the medium")
			return path, nil
		}
		if nb := new(notBootable); errors.As(err, &nb) || ctx.Err() != nil || time.Now().After(end) {
			return "", &notBootable{err.Error()}
		}
		time.Sleep(2 * time.Second)
	}
}

// fetch copies what a URL has into a file and gives its SHA-256. Certificates are
// not checked, as the initramfs does not.
func fetch(ctx context.Context, url, path string) (sum string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", &notBootable{"its root file system: " + err.Error()}
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	res, err := client.Do(req)
	if err != nil {
		return "", fmt.Errorf("fetch the root file system: %w", err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return "", fmt.Errorf("fetch the root file system: the server answered %s", res.Status)
	}
	f, err := os.Create(path)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, h), io.LimitReader(res.Body, maxRootfs+1))
	if err == nil && n > maxRootfs {
		err = fmt.Errorf("the root file system has more than %d bytes", int64(maxRootfs))
	}
	return hex.EncodeToString(h.Sum(nil)), err
}

// wantedRoot reads the digest at the end of the medium's initramfs: the last
// archive, not compressed, holds nothing else.
func wantedRoot(img *isoImage) (string, error) {
	e, err := img.find("/images/pxeboot/initrd.img")
	if err != nil {
		return "", err
	}
	tail := make([]byte, min(e.size, 4096))
	if _, err := img.r.ReadAt(tail, e.offset+e.size-int64(len(tail))); err != nil {
		return "", fmt.Errorf("read the end of the initramfs: %w", err)
	}
	at := bytes.LastIndex(tail, []byte(digestName+"\x00")) - newcHeaderLen
	if at < 0 {
		return "", errors.New("its initramfs does not say which root file system belongs to it")
	}
	_, from, size, err := firstMember(bytes.NewReader(tail), int64(at))
	if err != nil || from+size > int64(len(tail)) {
		return "", fmt.Errorf("the digest at the end of its initramfs cannot be read: %w", err)
	}
	want := strings.TrimSpace(string(tail[from : from+size]))
	if b, err := hex.DecodeString(want); err != nil || len(b) != sha256.Size {
		return "", errors.New("the digest at the end of its initramfs is none")
	}
	return want, nil
}

func bringsNetwork(keyfiles map[string][]byte) bool {
	for _, b := range keyfiles {
		if bytes.Contains(b, []byte("\naddress1=")) || bytes.Contains(b, []byte("\nmethod=auto")) {
			return true
		}
	}
	return false
}
