package redfish

import (
	"net/http"
	"net/url"
	"path"
	"strings"
)

const (
	ftsAction    = "FTSComputerSystem.VirtualMedia"
	ftsParameter = "FTSVirtualMediaAction"
)

func (b *BMC) ftsConfigPath() string { return b.systemPath() + "/Oem/ts_fujitsu/VirtualMedia" }
func (b *BMC) ftsTarget() string     { return b.systemPath() + "/Actions/Oem/" + ftsAction }

// ftsTree adds Fujitsu's way of media: an image named in a resource of its own,
// an action of the system that connects it.
func (b *BMC) ftsTree(t map[string]node) {
	s := b.firstOptical()
	at := b.ftsConfigPath()
	config := static("FTSVirtualMedia.v1_0_0.FTSVirtualMedia", at, "VirtualMedia", "Virtual Media", func() object {
		cd := object{"Server": s.host, "ShareName": path.Dir(s.path), "ImageName": path.Base(s.path), "ShareType": "HTTPS"}
		if s.host == "" {
			cd = object{"Server": "", "ShareName": "", "ImageName": "", "ShareType": "NFS"}
		}
		return object{"CDImage": cd, "RemoteMountEnabled": true}
	})
	config.patch = func(in object) *problem { return b.patchFTS(s, in) }
	t[at] = config
	t[b.ftsTarget()] = node{post: func(_ *http.Request, in object) reply { return b.ftsControl(s, in) }}
}

func (b *BMC) firstOptical() *slot {
	for _, s := range b.slots {
		if s.optical() {
			return s
		}
	}
	return nil // not with a checked Config
}

// ftsBody is the action as the system shows it: what it allows tells whether a
// medium is connected, and nothing is allowed without a licence.
func (b *BMC) ftsBody() object {
	allowed := []string{"ConnectCD"}
	if b.firstOptical().medium != nil {
		allowed = []string{"DisconnectCD"}
	}
	if b.is(LicenceFujitsu) {
		allowed = []string{}
	}
	return object{"#" + ftsAction: object{"target": b.ftsTarget(), ftsParameter + "@Redfish.AllowableValues": allowed}}
}

func (b *BMC) patchFTS(s *slot, in object) *problem {
	for _, key := range sortedKeys(in) {
		if key != "CDImage" && key != "RemoteMountEnabled" {
			return propertyUnknown(key)
		}
	}
	cd, isObject := in["CDImage"].(object)
	if !isObject {
		return propertyMissing("CDImage")
	}
	text := map[string]string{}
	for _, key := range []string{"Server", "ShareType", "ShareName", "ImageName"} {
		v, isText := cd[key].(string)
		if !isText {
			return propertyMissing("CDImage/" + key)
		}
		text[key] = v
	}
	if text["ShareType"] != "HTTPS" {
		return propertyValueNotInList("CDImage/ShareType", text["ShareType"])
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	s.host, s.path = text["Server"], path.Join("/", text["ShareName"], text["ImageName"])
	return nil
}

func (b *BMC) ftsControl(s *slot, in object) reply {
	switch what, _ := in[ftsParameter].(string); what {
	case "ConnectCD":
		b.mu.Lock()
		u := url.URL{Scheme: "https", Host: s.host, Path: s.path}
		b.mu.Unlock()
		return b.insert(s, object{"Image": u.String()})
	case "DisconnectCD":
		return done(b.eject(s))
	default:
		return fail(actionParameterValueNotInList(ftsParameter, strings.TrimSpace(show(in[ftsParameter])), ftsAction))
	}
}
