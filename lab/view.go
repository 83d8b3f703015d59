package lab

import (
	"net/url"

	"metalrise.dev/lab/machine"
	"metalrise.dev/lab/redfish"
)

// View is a lab as its owner sees it, looking at the machines and not at the
// Redfish services.
type View struct {
	Name    string       `json:"name"`
	Dir     string       `json:"dir"`
	Site    string       `json:"site"` // path of the site file
	Machine machine.Kind `json:"machine"`
	Network string       `json:"network"`
	Bridge  string       `json:"bridge"`
	// Software is the folder of the nodes' software; "" for a lab without a cluster.
	Software string       `json:"software,omitempty"`
	PID      int          `json:"pid"`
	Servers  []ServerView `json:"servers"`
}

// ServerView is one server.
type ServerView struct {
	Name     string             `json:"name"`
	Serial   string             `json:"serial"`
	UUID     string             `json:"uuid"`
	MAC      string             `json:"mac"` // of the port that has a cable
	BMC      string             `json:"bmc"` // host:port
	Power    redfish.PowerState `json:"power"`
	Doing    Doing              `json:"doing"`
	Override string             `json:"override"` // "Once Cd" or "none"
	Media    []string           `json:"media"`    // where inserted images came from, without the secret path
	Boots    int                `json:"boots"`    // since the lab is up
	LastStop machine.Stop       `json:"lastStop,omitempty"`
	Faults   []string           `json:"faults"`
	// InstallDisk is the serial number of the server's first disk, Swaps how often
	// it was swapped for another.
	InstallDisk string `json:"installDisk"`
	Swaps       int    `json:"swaps,omitempty"`
	// MemoryBytes is what the machine's processes use now.
	MemoryBytes int64 `json:"memoryBytes"`
	// Touched says which of the disks that nobody may write to were written to;
	// empty when all is well.
	Touched string `json:"touched,omitempty"`
	Error   string `json:"error,omitempty"` // a fault of the lab itself
}

// Doing is what a machine does now.
type Doing string

const (
	DoingNothing Doing = "off"
	SelfTest     Doing = "self test"
	RunsMedium   Doing = "runs medium"
	RunsDisk     Doing = "runs disk"
	AtPrompt     Doing = "nothing to boot"
	Stopping     Doing = "switching off"
)

func doing(s redfish.Status) Doing {
	switch {
	case s.Power == redfish.PowerOff:
		return DoingNothing
	case s.Power == redfish.PoweringOff:
		return Stopping
	case s.Power == redfish.PoweringOn || s.Boots == 0:
		return SelfTest
	case s.LastStop == machine.NotBooted:
		return AtPrompt
	case s.LastStop != "":
		return SelfTest // it stopped, and the power is on: the next boot is near
	case s.LastBoot.Kind == machine.FromMedia:
		return RunsMedium
	}
	return RunsDisk
}

func (s Server) view() ServerView {
	st := s.BMC.Status()
	v := ServerView{
		Name: s.Name, Serial: s.Spec.Serial, UUID: s.Spec.UUID, MAC: s.Spec.NICs[0].MAC, BMC: st.Addr,
		Power: st.Power, Doing: doing(st), Override: st.Override, Media: []string{}, Boots: st.Boots, LastStop: st.LastStop, Faults: []string{},
		InstallDisk: s.Spec.Disks[0].Serial, Swaps: s.Swaps,
	}
	for _, m := range st.Media {
		v.Media = append(v.Media, origin(m.URL))
	}
	for _, f := range st.Faults {
		v.Faults = append(v.Faults, f.String())
	}
	if st.Power != redfish.PowerOff {
		v.MemoryBytes = memoryUsed(s.Name)
	}
	if err := untouched(s.Spec); err != nil {
		v.Touched = err.Error()
	}
	if st.Err != nil {
		v.Error = st.Err.Error()
	}
	return v
}

// origin leaves out the path of a URL, which may be a one-time secret.
func origin(image string) string {
	u, err := url.Parse(image)
	if err != nil || u.Host == "" {
		return "unknown"
	}
	return u.Scheme + "://" + u.Host
}
