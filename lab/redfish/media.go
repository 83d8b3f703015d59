package redfish

import (
	"cmp"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

const (
	insertAction = "VirtualMedia.InsertMedia"
	ejectAction  = "VirtualMedia.EjectMedia"
	mediaPrefix  = "media-" // of image files in Config.Dir
)

// slot is one virtual media slot with what is in it. Guarded by BMC.mu.
type slot struct {
	Slot
	medium     *medium
	name       string // ImageName that stays after an eject, with the quirk
	host, path string // what CfgCD was told
	busy       bool   // an insert is under way
	verify     bool   // VerifyCertificate
}

// medium is an inserted image.
type medium struct {
	Image string `json:"image"`          // the URL it came from, without any login
	File  string `json:"file,omitempty"` // name in Config.Dir; "" in Lazy mode
	Size  int64  `json:"size,omitempty"` // bytes of File
}

func (b *BMC) mediumPath(m *medium) string {
	if m.File == "" {
		return ""
	}
	return filepath.Join(b.cfg.Dir, filepath.Base(m.File))
}

// order is one InsertMedia request, checked.
type order struct {
	url        *url.URL
	user, pass string
	verify     bool
}

// parseInsert checks the parameters of InsertMedia (schema VirtualMedia 1.6).
func parseInsert(in object) (order, *problem) {
	var o order
	text := map[string]string{}
	for _, key := range sortedKeys(in) {
		switch key {
		case "Image", "TransferProtocolType", "TransferMethod", "UserName", "Password":
			s, ok := in[key].(string)
			if !ok && in[key] != nil {
				return o, actionParameterTypeError(insertAction, key, in[key])
			}
			text[key] = s
		case "Inserted", "WriteProtected":
			v, ok := in[key].(bool)
			if !ok {
				return o, actionParameterTypeError(insertAction, key, in[key])
			}
			if !v {
				return o, actionParameterValueNotInList(key, v, insertAction)
			}
		default:
			return o, actionParameterUnknown(insertAction, key)
		}
	}
	if text["Image"] == "" {
		return o, actionParameterMissing(insertAction, "Image")
	}
	u, err := url.Parse(text["Image"])
	switch {
	case err != nil || u.Host == "":
		return o, actionParameterFormat(insertAction, "Image", "", "it is not an absolute URL")
	case u.User != nil:
		return o, actionParameterFormat(insertAction, "Image", u.Redacted(), "a login belongs into UserName and Password")
	case u.Scheme != "http" && u.Scheme != "https":
		return o, actionParameterFormat(insertAction, "Image", u.Redacted(), "only http and https are served")
	}
	if p := text["TransferProtocolType"]; p != "" && !strings.EqualFold(p, u.Scheme) {
		return o, actionParameterValueNotInList("TransferProtocolType", p, insertAction)
	}
	if m := text["TransferMethod"]; m != "" && m != "Stream" && m != "Upload" {
		return o, actionParameterValueNotInList("TransferMethod", m, insertAction)
	}
	o.url, o.user, o.pass = u, text["UserName"], text["Password"]
	return o, nil
}

// insert is the InsertMedia action.
func (b *BMC) insert(s *slot, in object) reply { return b.insertAs(s, in, b.cfg.Personality.Insert) }

func (b *BMC) insertAs(s *slot, in object, rule InsertRule) reply {
	if p := cmp.Or(b.refuseInsert(), b.insertForm(in)); p != nil {
		return fail(p)
	}
	o, p := parseInsert(in)
	if p == nil {
		p = b.refuseImage(o)
	}
	if p != nil {
		return fail(p)
	}
	if b.is(InsertLies) {
		return reply{}
	}
	b.mu.Lock()
	switch {
	case b.otherMediumLocked(s) && b.is(OneMedium):
		p = inUse("There is another medium, and there can be only one.")
	case s.busy:
		p = inUse("Another image is being inserted into slot " + s.ID + ".")
	case s.medium != nil:
		p = inUse("Slot " + s.ID + " holds an image already; eject it first.")
	case !b.beginLocked():
		p = shuttingDown()
	default:
		s.busy = true
		o.verify = s.verify
	}
	b.mu.Unlock()
	if p != nil {
		return fail(p)
	}
	switch rule {
	case InsertWaits:
		defer b.work.Done()
		return done(b.fill(s, o))
	case InsertLate:
		b.showLate(s, o)
		return reply{}
	}
	t := b.tasks.start("Insert " + s.ID)
	go func() {
		defer b.work.Done()
		b.tasks.finish(t, b.fill(s, o))
	}()
	now, _ := b.tasks.look(t.id)
	if b.is(TaskVanishes) {
		b.tasks.drop(t.id)
	}
	return accepted(now)
}

func (b *BMC) otherMediumLocked(s *slot) bool {
	return slices.ContainsFunc(b.slots, func(o *slot) bool { return o != s && (o.medium != nil || o.busy) })
}

// fill fetches the image and puts it into the slot. The download belongs to the
// BMC: it goes on when the client hangs up.
func (b *BMC) fill(s *slot, o order) *problem {
	m := &medium{Image: o.url.String()}
	var p *problem
	switch {
	case b.faults.hits(MediaDownloadFails):
		p = imageUnreachable("CouldNotEstablishConnection", m.Image, "the connection broke")
	case b.cfg.Media == Download:
		p = b.download(m, o)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	s.busy = false
	if p != nil {
		b.log.Warn("insert media", "slot", s.ID, "error", p)
		return p
	}
	s.medium = m
	b.saveLocked()
	b.log.Debug("media inserted", "slot", s.ID, "image", m.Image, "bytes", m.Size)
	return nil
}

// eject is the EjectMedia action. The file is unlinked: a machine that has it
// open reads on.
func (b *BMC) eject(s *slot) *problem {
	if b.faults.hits(EjectFails) {
		return internal("The virtual media service did not answer.")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case s.busy:
		return inUse("An image is being inserted into slot " + s.ID + ".")
	case s.medium == nil && b.is(EjectEmptyRefused):
		return &problem{status: http.StatusBadRequest, id: "NoVirtualMediaConnectionAvailable",
			text: "There is no virtual media connection.", remedy: "Insert a medium first."}
	case s.medium == nil:
		return nil // ejecting nothing is done already
	}
	b.disturb()
	if b.is(ImageNameKept) {
		s.name = path.Base(s.medium.Image)
	}
	if file := b.mediumPath(s.medium); file != "" {
		if err := os.Remove(file); err != nil && !os.IsNotExist(err) {
			return internal("The image could not be removed: " + err.Error() + ".")
		}
	}
	s.medium = nil
	b.saveLocked()
	return nil
}

func (b *BMC) slotBody(s *slot, at string) object {
	out := object{
		"@odata.id": at, "@odata.type": "#VirtualMedia.v1_6_4.VirtualMedia",
		"Id": s.ID, "Name": "Virtual Media " + s.ID, "MediaTypes": s.Types,
		"Image": nil, "ImageName": nil, "Inserted": false, "WriteProtected": true,
		"ConnectedVia": "NotConnected", "TransferMethod": nil, "TransferProtocolType": nil, "UserName": nil, "Password": nil,
		"Status": ok(),
	}
	if !s.optical() {
		return out
	}
	if s.name != "" {
		out["ImageName"] = s.name
	}
	b.slotActions(s, at, out)
	if m := s.medium; m != nil {
		out["Image"], out["Inserted"], out["ConnectedVia"] = m.Image, true, "URI"
		if u, err := url.Parse(m.Image); err == nil {
			out["ImageName"], out["TransferProtocolType"] = path.Base(u.Path), strings.ToUpper(u.Scheme)
		}
		out["TransferMethod"] = "Upload"
		if m.File == "" {
			out["TransferMethod"] = "Stream"
		}
	}
	if b.is(ConnectedViaLies) {
		out["ConnectedVia"] = "NotConnected"
	}
	return out
}

// slotActions adds how this BMC takes a medium.
func (b *BMC) slotActions(s *slot, at string, out object) {
	switch {
	case b.is(NoInsert), b.cfg.Personality.Media == MediaByFTS:
		delete(out, "Image")
	case b.cfg.Personality.Media == MediaByVmm:
		out["Oem"] = object{"Huawei": object{"Actions": object{"#" + vmmAction: object{"target": at + "/Oem/Huawei/Actions/" + vmmAction}}}}
	case b.cfg.Personality.Media == MediaByCfgCD:
		out["Host"], out["Path"] = s.host, s.path
		out["Actions"] = object{"#" + mountAction: object{"target": at + "/Actions/" + mountAction}, "#" + unmountAction: object{"target": at + "/Actions/" + unmountAction}}
	case b.cfg.Personality.Media == MediaByAction:
		out["VerifyCertificate"] = s.verify
		protocols := []string{"HTTP", "HTTPS"}
		if b.is(ImageFromFilesOnly) {
			protocols = []string{"NFS", "CIFS"}
		}
		out["Actions"] = object{
			"#" + insertAction: object{
				"target": at + "/Actions/" + insertAction,
				"TransferProtocolType@Redfish.AllowableValues": protocols,
				"TransferMethod@Redfish.AllowableValues":       []string{"Stream", "Upload"},
			},
			"#" + ejectAction: object{"target": at + "/Actions/" + ejectAction},
		}
	}
}

func (b *BMC) patchSlot(s *slot, in object) *problem {
	switch b.cfg.Personality.Media {
	case MediaByPatch:
		return b.patchMedia(s, in)
	case MediaByCfgCD:
		return b.patchISOConfig(s, in)
	}
	for _, key := range sortedKeys(in) {
		if key != "VerifyCertificate" {
			if slices.Contains([]string{"Image", "Inserted", "WriteProtected", "UserName", "Password", "TransferMethod", "TransferProtocolType"}, key) {
				return propertyNotWritable(key)
			}
			return propertyUnknown(key)
		}
	}
	v, isBool := in["VerifyCertificate"].(bool)
	if !isBool {
		return propertyValueTypeError("VerifyCertificate", in["VerifyCertificate"])
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	s.verify = v
	return nil
}

// mediaTree adds the slots below one parent (the system or the manager).
func (b *BMC) mediaTree(t map[string]node, parent string) {
	base := parent + "/VirtualMedia"
	var all []string
	for _, s := range b.slots {
		at := base + "/" + s.ID
		all = append(all, at)
		n := node{get: func() object { return b.slotBody(s, at) }}
		if s.optical() {
			n.patch = func(in object) *problem { return b.patchSlot(s, in) }
			b.mediaActions(t, s, at)
		}
		t[at] = n
	}
	t[base] = fixed("VirtualMediaCollection.VirtualMediaCollection", base, "Virtual Media", all)
}

func (b *BMC) mediaActions(t map[string]node, s *slot, at string) {
	first := s == b.slots[slices.IndexFunc(b.slots, func(o *slot) bool { return o.optical() })]
	act := func(path string, do func(in object) reply) {
		t[path] = node{post: func(r *http.Request, in object) reply {
			if first && b.is(FirstSlotDead) {
				return fail(notAllowed(r.Method, ""))
			}
			return do(in)
		}}
	}
	switch b.cfg.Personality.Media {
	case MediaByAction:
		act(at+"/Actions/"+insertAction, func(in object) reply { return b.insert(s, in) })
		t[at+"/Actions/"+ejectAction] = node{post: func(r *http.Request, in object) reply {
			if keys := sortedKeys(in); len(keys) > 0 {
				return fail(actionParameterUnknown(ejectAction, keys[0]))
			}
			if r.ContentLength == 0 && b.is(EjectWantsObject) {
				return fail(wrongMediaType(""))
			}
			return done(b.eject(s))
		}}
	case MediaByVmm:
		act(at+"/Oem/Huawei/Actions/"+vmmAction, func(in object) reply { return b.vmmControl(s, in) })
	case MediaByCfgCD:
		act(at+"/Actions/"+mountAction, func(object) reply { return b.mountISO(s) })
		act(at+"/Actions/"+unmountAction, func(object) reply { return done(b.eject(s)) })
	}
}
