package bmc

import (
	"context"
	"net/http"
	"net/url"
	"path"
	"strings"

	"metalrise.dev/fleet"
)

// Fujitsu's iRMC connects media with an action of the system. The parameter
// was renamed in later firmware; the words that the action allows tell whether
// a medium is connected, and that there is no licence when there are none.
const ftsAction = "#FTSComputerSystem.VirtualMedia"

const withoutLicence = "as an iRMC without licence for virtual media (eLCM) does"

type ftsState struct {
	target, parameter string
	connected, free   bool // may be disconnected; may be connected
}

func readFTS(sys node) (ftsState, bool) {
	a := sys.object("Actions").object("Oem").object(ftsAction)
	s := ftsState{target: localTarget(a)}
	if s.target == "" {
		return s, false
	}
	for _, name := range []string{"FTSVirtualMediaAction", "VirtualMediaAction"} {
		if _, ok := a.m[name+"@Redfish.AllowableValues"]; ok {
			allowed := a.texts(name + "@Redfish.AllowableValues")
			s.parameter, s.connected, s.free = name, contains(allowed, "DisconnectCD"), contains(allowed, "ConnectCD")
			return s, true
		}
	}
	s.parameter = "FTSVirtualMediaAction"
	return s, true
}

// fujitsu finds the drive of a system.
func (r *reader) fujitsu(ctx context.Context, sys node) (slot, bool) {
	state, ok := readFTS(sys)
	if !ok {
		return slot{}, false
	}
	at := firstOf(sys.object("Oem").object("ts_fujitsu").link("VirtualMedia"), strings.TrimRight(sys.path, "/")+"/Oem/ts_fujitsu/VirtualMedia")
	n, ok := r.try(ctx, at)
	if !ok {
		return slot{}, false
	}
	return ftsSlot(state, sys.path, n), true
}

func ftsSlot(state ftsState, system string, n node) slot {
	s := slot{drivePlace: drivePlace{path: n.path, how: byFujitsu, from: system, insert: state.target, eject: state.target}, n: n, named: true}
	if !state.connected && !state.free {
		s.why = "allows neither to connect nor to disconnect, " + withoutLicence
	}
	s.shown = MediaState{Slot: n.path, Inserted: state.connected}
	if cd := n.object("CDImage"); state.connected {
		scheme := strings.ToLower(cd.str("ShareType"))
		s.shown.Image = joinHost(scheme+"://"+cd.str("Server"), path.Join(cd.str("ShareName"), cd.str("ImageName")))
	}
	return s
}

func (s *Session) readFujitsu(ctx context.Context, p drivePlace) (slot, error) {
	sys, err := s.readForChange(ctx, p.from)
	if err != nil {
		return slot{}, err
	}
	n, err := s.readForChange(ctx, p.path)
	if err != nil {
		return slot{}, err
	}
	state, ok := readFTS(sys)
	if !ok {
		return slot{}, fleet.NewFault(fleet.CodeBMCUnsupported, fleet.Unsupported, nil, "%s no longer offers virtual media", p.from)
	}
	return ftsSlot(state, p.from, n), nil
}

// connectFujitsu names the image, then connects it. iRMC loads from file shares
// and, in later firmware, over https; not over http.
func (s *Session) connectFujitsu(ctx context.Context, d slot, u *url.URL) (*answer, error) {
	if u.Scheme != "https" {
		return nil, fleet.NewFault(fleet.CodeBMCUnsupported, fleet.Unsupported, nil, "iRMC does not load images over %s", u.Scheme)
	}
	image := u.Path
	a, err := s.change(ctx, d.n, map[string]any{
		"CDImage": map[string]any{
			"Server": u.Host, "ShareType": "HTTPS", "ShareName": path.Dir(image), "ImageName": path.Base(image),
			"UserName": "", "Password": "", "UserDomain": "",
		},
		"RemoteMountEnabled": true,
	})
	if err != nil {
		return a, err
	}
	return s.fts(ctx, d, "ConnectCD")
}

func (s *Session) fts(ctx context.Context, d slot, what string) (*answer, error) {
	sys, err := s.readForChange(ctx, d.from)
	if err != nil {
		return nil, err
	}
	state, ok := readFTS(sys)
	if !ok {
		return nil, fleet.NewFault(fleet.CodeBMCUnsupported, fleet.Unsupported, nil, "%s no longer offers virtual media", d.from)
	}
	return s.do(ctx, ask{method: http.MethodPost, path: state.target, body: map[string]any{state.parameter: what}, wait: s.opts.InsertTimeout})
}
