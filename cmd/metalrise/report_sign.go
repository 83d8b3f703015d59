package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"metalrise.dev/fleet"
	"metalrise.dev/images"
	"metalrise.dev/provision/store"
)

// Names of the files of a report, in the state folder and where a person has
// them written.
const (
	builtJSON      = "as-built.json"
	builtSignature = "as-built.json.sig"
	builtMarkdown  = "as-built.md"
	builtHTML      = "as-built.html"
	// mostReport bounds a report that is read: that of a thousand servers has some
	// 4 MiB.
	mostReport = 64 << 20
)

// signReport gives the files of a report. What is signed are the bytes of the
// JSON file.
func signReport(b asBuilt, seed []byte) (map[string][]byte, error) {
	key, err := images.NewBundleKey(seed)
	if err != nil {
		return nil, err
	}
	text, err := json.MarshalIndent(b, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode report: %w", err)
	}
	text = append(text, '\n')
	signer := key.Signer()
	page, err := reportHTML(b, signer.Fingerprint())
	if err != nil {
		return nil, err
	}
	return map[string][]byte{
		builtJSON: text, builtSignature: key.SignReport(text),
		builtMarkdown: reportMarkdown(b, signer.Fingerprint()), builtHTML: page,
	}, nil
}

// writeReport writes the files of a report into a folder.
func writeReport(dir string, files map[string][]byte, mode os.FileMode) error {
	for _, name := range []string{builtHTML, builtMarkdown, builtSignature, builtJSON} { // the one that is read comes last
		if err := replaceFile(filepath.Join(dir, name), files[name], mode); err != nil {
			return fmt.Errorf("write report %s: %w", filepath.Join(dir, name), err)
		}
	}
	return nil
}

// keepBuilt writes the report into the state folder once all is handed over. It
// changes nothing where the one there is of this hand-over: what a person
// accepted since stays.
func keepBuilt(ctx context.Context, st *store.Store, view fleet.Overview) error {
	b, err := build(ctx, st, view, time.Now())
	if err != nil || b.HandedOver.IsZero() {
		return err
	}
	old, err := readBuilt(filepath.Join(st.Dir(), builtJSON))
	if err == nil && old.Plan == b.Plan && old.HandedOver.Equal(b.HandedOver) {
		return nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err == nil && old.Plan == b.Plan {
		b.Accepted = old.Accepted
	}
	return storeBuilt(st, b)
}

func storeBuilt(st *store.Store, b asBuilt) error {
	seed, err := st.Secret("bundle-key")
	if err != nil {
		return err
	}
	files, err := signReport(b, seed)
	if err != nil {
		return err
	}
	return writeReport(st.Dir(), files, 0o600)
}

// readBuilt reads a report without asking who signed it.
func readBuilt(path string) (asBuilt, error) {
	text, err := readBounded(path, mostReport)
	if err != nil {
		return asBuilt{}, err
	}
	return parseBuilt(path, text)
}

func parseBuilt(path string, text []byte) (asBuilt, error) {
	var b asBuilt
	if err := json.Unmarshal(text, &b); err != nil {
		return b, fmt.Errorf("read report %s: %w", path, err)
	}
	if b.APIVersion != builtVersion {
		return b, fmt.Errorf("read report %s: apiVersion %.40q, want %s", path, b.APIVersion, builtVersion)
	}
	return b, nil
}

// checkBuilt reads a report and tells who signed it.
func checkBuilt(path string) (asBuilt, images.Signer, error) {
	text, err := readBounded(path, mostReport)
	if err != nil {
		return asBuilt{}, images.Signer{}, err
	}
	signature, err := readBounded(path+".sig", 1<<16)
	if err != nil {
		return asBuilt{}, images.Signer{}, err
	}
	signer, err := images.CheckReport(text, signature)
	if err != nil {
		return asBuilt{}, images.Signer{}, fmt.Errorf("report %s: %w", path, err)
	}
	b, err := parseBuilt(path, text)
	return b, signer, err
}
