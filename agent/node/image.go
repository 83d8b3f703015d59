package node

import (
	"context"
	"path"
	"slices"
	"strings"
	"time"

	"metalrise.dev/fleet"
	"metalrise.dev/fleet/callhome"
)

const (
	// imageNamespace is where the kubelet's images live in containerd.
	imageNamespace = "k8s.io"
	// pinned keeps the kubelet from clearing an image away: it could not be
	// fetched again (containerd's CRI plugin, since 1.7; older ones ignore it).
	pinned = "io.cri-containerd.pinned=pinned"

	listTime   = time.Minute
	importTime = 30 * time.Minute
	// answerTime is what a container runtime has to answer after its start.
	answerTime  = 30 * time.Second
	answerPause = 500 * time.Millisecond
)

// image imports an archive of container images, unless all of them are there.
func (s System) image(ctx context.Context, from Source, step callhome.ImageStep, moved func(int64)) error {
	ctr, ok := s.find("ctr", runtimeDirs())
	if !ok {
		return prepare(nil, "import images: ctr is in none of %s; the container runtime was not put in place", strings.Join(runtimeDirs(), ", "))
	}
	missing, err := s.missing(ctx, ctr, step.References)
	for until := time.Now().Add(answerTime); err != nil && ctx.Err() == nil && time.Now().Before(until); {
		select { // the container runtime was started a moment ago
		case <-time.After(answerPause):
		case <-ctx.Done():
		}
		missing, err = s.missing(ctx, ctr, step.References)
	}
	if err != nil {
		return prepare(err, "list images")
	}
	if len(missing) > 0 {
		if err := s.importArchive(ctx, ctr, from, step, moved); err != nil {
			return err
		}
	} else {
		moved(step.Bytes)
	}
	for _, r := range step.References {
		if _, err := s.command(ctx, []string{ctr, "-n", imageNamespace, "images", "label", r, pinned}, listTime); err != nil {
			return prepare(err, "pin image %s", r)
		}
	}
	return nil
}

func (s System) importArchive(ctx context.Context, ctr string, from Source, step callhome.ImageStep, moved func(int64)) error {
	archive := path.Join(Spool, step.SHA256+".tar")
	p, err := s.open(Spool, archive, true)
	if err != nil {
		return prepare(err, "fetch images")
	}
	defer func() { _ = p.Close() }()
	c := content{from: from, path: step.Path, sum: step.SHA256, size: step.Bytes, moved: moved}
	if err := c.into(ctx, p, 0o600); err != nil {
		return prepare(err, "fetch images %s", strings.Join(step.References, ", "))
	}
	if _, err := s.command(ctx, []string{ctr, "-n", imageNamespace, "images", "import", archive}, importTime); err != nil {
		return prepare(err, "import images %s", strings.Join(step.References, ", "))
	}
	missing, err := s.missing(ctx, ctr, step.References)
	if err != nil {
		return prepare(err, "list images")
	}
	if err := p.Remove(p.rel); err != nil {
		return prepare(err, "remove %s", archive)
	}
	if len(missing) > 0 {
		return fleet.NewFault(fleet.CodePayloadCorrupt, fleet.Conflict, nil, "the archive with sha256 %s was imported, but %s is not there", step.SHA256, strings.Join(missing, ", "))
	}
	return nil
}

// missing lists the references that the container runtime does not have.
func (s System) missing(ctx context.Context, ctr string, want []string) ([]string, error) {
	out, err := s.command(ctx, []string{ctr, "-n", imageNamespace, "images", "ls", "-q"}, listTime)
	if err != nil {
		return nil, err
	}
	have := strings.Fields(string(out))
	var missing []string
	for _, r := range want {
		if !slices.Contains(have, r) {
			missing = append(missing, r)
		}
	}
	return missing, nil
}
