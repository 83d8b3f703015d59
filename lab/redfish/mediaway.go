package redfish

import (
	"net/http"
	"strings"
	"time"
)

const (
	vmmAction     = "VirtualMedia.VmmControl"
	mountAction   = "IsoConfig.Mount"
	unmountAction = "IsoConfig.UnMount"
	oldImage      = "http://192.0.2.1/old.iso" // of the quirk stale-medium; the address is one for documents (RFC 5737)
)

// forgetMedium leaves an old medium in the first optical slot, as the quirk says.
func (b *BMC) forgetMedium() {
	if !b.has(StaleMedium) {
		return
	}
	for _, s := range b.slots {
		if s.optical() {
			s.medium = &medium{Image: oldImage}
			return
		}
	}
}

// upload tells a slot that takes uploads only (row 79).
func (s Slot) upload() bool { return strings.HasPrefix(s.ID, "RDOC") }

// insertForm judges the parameters of InsertMedia as this BMC does.
func (b *BMC) insertForm(in object) *problem {
	has := func(key string) bool { _, given := in[key]; return given }
	for _, key := range []string{"Inserted", "WriteProtected"} {
		if has(key) && b.is(InsertRefusesFlags) {
			return actionParameterUnknown(insertAction, key)
		}
	}
	switch {
	case !has("TransferProtocolType") && b.is(InsertWantsProtocol):
		return actionParameterMissing(insertAction, "TransferProtocolType")
	case !has("TransferMethod") && b.is(InsertWantsMethod):
		return actionParameterMissing(insertAction, "TransferMethod")
	case !has("UserName") && b.is(InsertWantsUser):
		return propertyMissing("UserName")
	}
	return nil
}

// refuseInsert is what stands against any insert: licence, state, firmware.
func (b *BMC) refuseInsert() *problem {
	p := &problem{status: http.StatusForbidden, text: "A licence is needed for virtual media.", remedy: "Install the licence."}
	switch {
	case b.is(LicenceDell):
		p.status, p.id = http.StatusBadRequest, "LIC501"
	case b.is(LicenceHPE):
		p.id = "LicenseKeyRequired"
	case b.is(LicenceSupermicro):
		p.id = "OemLicenseNotPassed"
	case b.is(LicenceFujitsu):
		p.id, p.text = "GeneralError", "This function requires a valid eLCM license."
	case b.is(MediaDetached):
		return &problem{status: http.StatusInternalServerError, id: "VRM0021", text: "Virtual media is detached or in use.", remedy: "Attach it, then try again."}
	case b.is(MediaJobConflict):
		return &problem{status: http.StatusServiceUnavailable, id: "RAC0720", text: "A job that uses virtual media is running.", remedy: "Wait for its end."}
	default:
		return nil
	}
	return p
}

// refuseImage judges the address of an image as this BMC does.
func (b *BMC) refuseImage(o order) *problem {
	low := strings.ToLower(o.url.Path)
	switch {
	case !strings.HasSuffix(low, ".iso") && !strings.HasSuffix(low, ".img") && b.is(ImageWantsSuffix):
		return actionParameterFormat(insertAction, "Image", o.url.Redacted(), "its name must end in .iso or .img")
	case o.url.Scheme != "https" && b.is(ImageWantsTLS):
		return actionParameterFormat(insertAction, "Image", o.url.Redacted(), "only https is taken")
	case b.is(ImageFromFilesOnly):
		return actionParameterValueNotInList("TransferProtocolType", strings.ToUpper(o.url.Scheme), insertAction)
	}
	return nil
}

// patchMedia inserts and ejects by PATCH.
func (b *BMC) patchMedia(s *slot, in object) *problem {
	if s.upload() {
		return propertyNotWritable("Image")
	}
	image, given := in["Image"]
	for _, key := range sortedKeys(in) {
		if key != "Image" && key != "Inserted" && key != "WriteProtected" {
			return propertyNotWritable(key)
		}
	}
	switch text, isText := image.(string); {
	case !given:
		return propertyMissing("Image")
	case image == nil:
		return b.eject(s)
	case !isText:
		return propertyValueTypeError("Image", image)
	default:
		return problemOf(b.insert(s, object{"Image": text}))
	}
}

// problemOf gives the problem of a reply that is no success. PATCH answers by
// problem, actions by reply.
func problemOf(a reply) *problem { return a.problem }

// vmmControl is Huawei's own action for both.
func (b *BMC) vmmControl(s *slot, in object) reply {
	switch kind, _ := in["VmmControlType"].(string); kind {
	case "Connect":
		image, isText := in["Image"].(string)
		if !isText || image == "" {
			return fail(actionParameterMissing(vmmAction, "Image"))
		}
		return b.insertAs(s, object{"Image": image}, InsertTask)
	case "Disconnect":
		return done(b.eject(s))
	default:
		return fail(actionParameterValueNotInList("VmmControlType", in["VmmControlType"], vmmAction))
	}
}

// patchISOConfig keeps where Supermicro's CfgCD shall load from.
func (b *BMC) patchISOConfig(s *slot, in object) *problem {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, key := range sortedKeys(in) {
		text, isText := in[key].(string)
		switch {
		case !isText:
			return propertyValueTypeError(key, in[key])
		case key == "Host":
			s.host = text
		case key == "Path":
			s.path = text
		case key != "Username" && key != "Password":
			return propertyUnknown(key)
		}
	}
	return nil
}

func (b *BMC) mountISO(s *slot) reply {
	b.mu.Lock()
	host, path := s.host, s.path
	b.mu.Unlock()
	if !strings.Contains(host, "://") {
		host = "http://" + host
	}
	return b.insert(s, object{"Image": strings.TrimRight(host, "/") + "/" + strings.TrimLeft(strings.ReplaceAll(path, `\`, "/"), "/")})
}

// disturb stops a system that runs from the medium that is taken out.
func (b *BMC) disturb() {
	if b.run != nil && b.run.booting && b.is(EjectDisturbs) {
		b.run.forced = goOff
		b.setPowerLocked(PoweringOff)
		b.run.end()
	}
}

// showLate puts a medium in a moment after the insert was answered as done.
func (b *BMC) showLate(s *slot, o order) {
	go func() {
		defer b.work.Done()
		_ = sleep(b.ctx, max(b.cfg.Delays.Insert, time.Millisecond))
		_ = b.fill(s, o) // nobody is told: that is how such BMCs are
	}()
}
