package kube

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"sigs.k8s.io/yaml"

	"metalrise.dev/fleet/callhome"
)

// flannelConf is the pod network as containerd reads it. flannel's plugin adds
// to it what flannel has written of this node to /run/flannel/subnet.env; until
// then no pod starts that wants a network. Its version is the newest that all
// releases of that plugin read.
const flannelConf = `{
  "name": "pods",
  "cniVersion": "0.3.1",
  "plugins": [
    {"type": "flannel", "delegate": {"hairpinMode": true, "isDefaultGateway": true}},
    {"type": "portmap", "capabilities": {"portMappings": true}}
  ]
}
`

// Prepare puts everything on a node that does not depend on the cluster being
// there: programs, container runtime, images, settings. It starts containerd
// and enables the kubelet, which kubeadm starts. All nodes can do it at once,
// before the cluster begins.
func Prepare(n Node) (callhome.Task, error) {
	if err := n.check(); err != nil {
		return callhome.Task{}, err
	}
	t := callhome.Task{ID: n.taskID("prepare"), Name: "prepare the node"}
	t.Steps = append(t.Steps, n.fetchSteps()...)
	files, err := n.settingSteps()
	if err != nil {
		return callhome.Task{}, err
	}
	t.Steps = append(t.Steps, files...)
	t.Steps = append(t.Steps,
		run("give the files their SELinux types", time.Minute, append([]string{shell, settleScript}, n.ownFolders()...)...),
		unitStep("daemon-reload", ""),
		run("set up the kernel", 2*time.Minute, shell, beforeKubelet),
		unitStep("enable", "containerd.service"),
		unitStep("restart", "containerd.service"),
	)
	t.Steps = append(t.Steps, n.imageSteps()...)
	t.Steps = append(t.Steps,
		// containerd does not flush what it unpacks. After a power cut it would
		// believe in images whose files are empty.
		run("flush the images", 10*time.Minute, "/usr/bin/sync", "--file-system", "/var/lib/containerd"),
		unitStep("enable", "kubelet.service"))
	return t, nil
}

func run(name string, timeout time.Duration, argv ...string) callhome.Step {
	return callhome.Step{Name: name, Run: &callhome.RunStep{Argv: argv, Timeout: timeout}}
}

// fetchSteps put the payload's files in their places, links after what they
// point to.
func (n Node) fetchSteps() []callhome.Step {
	var fetched, links []callhome.Step
	for _, f := range n.Payload.Files {
		if f.Target != "" {
			links = append(links, callhome.Step{Name: "link " + f.Name, File: &callhome.FileStep{To: f.Path, Target: f.Target}})
			continue
		}
		fetched = append(fetched, callhome.Step{Name: "fetch " + f.Name, Fetch: &callhome.FetchStep{
			Path: n.Path(f.Digest), SHA256: f.Digest, Bytes: f.Bytes, To: f.Path, Mode: f.Mode}})
	}
	return append(fetched, links...)
}

func (n Node) imageSteps() []callhome.Step {
	var steps []callhome.Step
	for _, i := range n.Payload.Images {
		if i.For(n.Assignment.Role) {
			steps = append(steps, callhome.Step{Name: "import " + i.Name, Image: &callhome.ImageStep{
				Path: n.Path(i.Digest), SHA256: i.Digest, Bytes: i.Bytes, References: slices.Clone(i.References)}})
		}
	}
	return steps
}

// settingSteps write the files that are made here.
func (n Node) settingSteps() ([]callhome.Step, error) {
	patch, err := yaml.Marshal(n.kubeletPatch())
	if err != nil {
		return nil, err
	}
	kubelet, searchPath := n.program("kubelet"), n.searchPath()
	steps := []callhome.Step{
		fileStep("write the list of kernel modules", "/etc/modules-load.d/90-metalrise-kubernetes.conf", 0o644, strings.Join(modules(), "\n")+"\n"),
		fileStep("write the kernel settings", "/etc/sysctl.d/90-metalrise-kubernetes.conf", 0o644, n.sysctlFile()),
		fileStep("write the containerd configuration", "/etc/containerd/config.toml", 0o644, n.containerdConfig()),
		fileStep("write containerd.service", "/etc/systemd/system/containerd.service", 0o644, n.containerdUnit()),
		fileStep("write kubelet.service", "/etc/systemd/system/kubelet.service", 0o644, fmt.Sprintf(kubeletUnit, kubelet)),
		fileStep("write what kubeadm adds to kubelet.service", "/etc/systemd/system/kubelet.service.d/10-kubeadm.conf", 0o644, fmt.Sprintf(kubeletDropIn, searchPath, kubelet)),
		fileStep("write the kubelet's own settings", patchesDir+"/kubeletconfiguration+merge.yaml", 0o644, string(patch)),
		fileStep("write before-kubelet", beforeKubelet, 0o755, n.beforeKubeletScript()),
		fileStep("write settle", settleScript, 0o755, settle),
		fileStep("write kubeadm-once", onceScript, 0o755, n.once()),
		fileStep("write after-reset", afterReset, 0o755, n.afterResetScript()),
	}
	if n.holdsVIP() {
		steps = append(steps, fileStep("write the keepalived configuration", vipTemplate, 0o644, n.keepalivedConfig()))
	}
	steps = append(steps, n.mirrorSteps()...)
	if hasFlannel(n.Plan.Cluster.CNI) {
		steps = append(steps, fileStep("write the pod network", cniConfDir+"/10-flannel.conflist", 0o644, flannelConf))
	}
	return steps, nil
}

// ownFolders are the folders whose content came with these steps.
func (n Node) ownFolders() []string {
	dirs := []string{ownDir, "/etc/containerd", "/etc/cni", "/etc/systemd/system/kubelet.service", "/etc/systemd/system/kubelet.service.d",
		"/etc/systemd/system/containerd.service", "/etc/modules-load.d", "/etc/sysctl.d"}
	for _, f := range n.Payload.Files {
		if dir := path.Dir(f.Path); !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}
