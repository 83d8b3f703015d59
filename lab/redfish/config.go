package redfish

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"metalrise.dev/lab/machine"
)

// Config is everything that makes one emulated BMC.
type Config struct {
	Listen             string // "127.77.0.11:443", or "127.0.0.1:0" for any free port
	Username, Password string // the one account; both needed
	Spec               machine.Spec
	Hardware           machine.Hardware
	// Dir keeps what outlives a restart. "" keeps nothing and is allowed with Lazy media only.
	Dir         string
	Delays      Delays
	Limits      Limits
	Media       MediaMode
	Personality Personality // the zero value is Standard()
	// Certificate is shared by many BMCs of one process; nil makes an ECDSA
	// P-256 one for this BMC, kept in Dir.
	Certificate *tls.Certificate
	// MediaRoots verifies image servers once a client sets VerifyCertificate on a
	// slot; nil means the roots of the host. By default nothing is verified, as
	// on most real BMCs.
	MediaRoots *x509.CertPool
	Console    io.Writer    // serial console of the machine; nil discards
	Log        *slog.Logger // nil discards
}

// Delays are real waits, so that clients meet states in between. Zero is no wait.
type Delays struct {
	PowerOn  time.Duration // PoweringOn
	PowerOff time.Duration // PoweringOff, after the power is already cut
	POST     time.Duration // from reset to the first boot attempt
	Response time.Duration // before every answer
}

// Limits bound one BMC. Zero fields get the default named beside them.
type Limits struct {
	Sessions         int           // 16
	SessionTimeout   time.Duration // 30 minutes without a request
	LockoutThreshold int           // 5 failed logins; negative: never lock
	LockoutDuration  time.Duration // 30 seconds; also forgets failures after this long
	MediaBytes       int64         // 16 GiB: largest image
}

func (l Limits) withDefaults() Limits {
	if l.Sessions == 0 {
		l.Sessions = 16
	}
	if l.SessionTimeout == 0 {
		l.SessionTimeout = 30 * time.Minute
	}
	if l.LockoutThreshold == 0 {
		l.LockoutThreshold = 5
	}
	if l.LockoutDuration == 0 {
		l.LockoutDuration = 30 * time.Second
	}
	if l.MediaBytes == 0 {
		l.MediaBytes = 16 << 30
	}
	return l
}

// MediaMode says what inserting a medium does.
type MediaMode int

const (
	Download MediaMode = iota // fetch the whole image into Dir
	Lazy                      // keep the URL only: BootSource.ISO is then the URL itself
)

// MediaPlace says below which resource a BMC shows its virtual media.
type MediaPlace int

const (
	UnderBoth    MediaPlace = iota // the same slots, seen from the system and from the manager
	UnderSystem                    // newer BMCs
	UnderManager                   // older BMCs
)

// OnceRule says what becomes of a one-time boot override when it was used.
type OnceRule int

const (
	OnceCleared OnceRule = iota // the standard: used for one boot, then Disabled
	OnceKept                    // a bug seen in the field: it acts at every boot until changed
)

// RepeatRule says how a reset is answered that asks for the state there already is.
type RepeatRule int

const (
	RefuseRepeat RepeatRule = iota // 409 with a message id
	AcceptRepeat                   // 204 without effect
)

// InsertRule says when InsertMedia answers.
type InsertRule int

const (
	InsertWaits InsertRule = iota // after the download, with its outcome
	InsertTask                    // at once with 202 and a task to follow
)

// MatchRule says whether a change must name the version it is based on.
type MatchRule int

const (
	MatchOptional MatchRule = iota // If-Match is honoured when given
	MatchRequired                  // a PATCH without If-Match is answered 428
)

// Slot is one virtual media slot. Only slots that take a CD or DVD have actions;
// others are there because real BMCs show them and clients must choose.
type Slot struct {
	ID    string
	Types []string // Redfish MediaTypes: CD, DVD, Floppy, USBStick
}

func (s Slot) optical() bool {
	for _, t := range s.Types {
		if t == "CD" || t == "DVD" {
			return true
		}
	}
	return false
}

// Personality is what differs between BMCs of different makers while all of them
// call it Redfish.
type Personality struct {
	Name           string
	SystemID       string // "" means the serial number
	ManagerID      string
	ChassisID      string
	Product        string
	Firmware       string // version of the BMC firmware
	Virtualization string // BIOS attribute that switches CPU virtualization
	MediaPlace     MediaPlace
	Slots          []Slot
	Match          MatchRule
	Once           OnceRule
	Repeat         RepeatRule
	Insert         InsertRule
	PageSize       int // members in one answer; 0 gives all
}

// Standard follows the specification to the letter.
func Standard() Personality {
	return Personality{
		Name: "standard", ManagerID: "BMC", ChassisID: "Chassis",
		Product: "Lab BMC", Firmware: "1.4.2", Virtualization: "ProcVirtualization",
		Slots: []Slot{
			{ID: "USB1", Types: []string{"USBStick", "Floppy"}},
			{ID: "CD1", Types: []string{"CD", "DVD"}},
		},
	}
}

// Embedded has ids with dots, media under the manager only and accepts a
// repeated reset, as older controllers do.
func Embedded() Personality {
	p := Standard()
	p.Name, p.SystemID, p.ManagerID, p.ChassisID = "embedded", "System.Embedded.1", "Manager.Embedded.1", "Chassis.Embedded.1"
	p.MediaPlace, p.Repeat = UnderManager, AcceptRepeat
	p.Slots = []Slot{{ID: "RemovableDisk", Types: []string{"USBStick"}}, {ID: "CD", Types: []string{"CD", "DVD"}}}
	return p
}

// Strict wants If-Match on every change, pages its collections, inserts media by
// a task and shows media under the system only.
func Strict() Personality {
	p := Standard()
	p.Name, p.SystemID = "strict", "Self"
	p.MediaPlace, p.Match, p.Insert, p.PageSize = UnderSystem, MatchRequired, InsertTask, 2
	return p
}

// Personalities lists all of them, the default first.
func Personalities() []Personality { return []Personality{Standard(), Embedded(), Strict()} }

// ParsePersonality finds one by its name.
func ParsePersonality(name string) (Personality, error) {
	var names []string
	for _, p := range Personalities() {
		if p.Name == name {
			return p, nil
		}
		names = append(names, p.Name)
	}
	return Personality{}, fmt.Errorf("bmc personality %q: unknown; want one of %s", name, strings.Join(names, ", "))
}

// check reports what makes a Config unusable.
func (c Config) check() error {
	switch {
	case c.Hardware == nil:
		return fmt.Errorf("bmc of %s: no hardware behind it", c.Spec.Name)
	case c.Username == "" || c.Password == "":
		return fmt.Errorf("bmc of %s: username and password are both needed", c.Spec.Name)
	case c.Spec.Serial == "" || c.Spec.UUID == "":
		return fmt.Errorf("bmc of %s: the machine needs a serial number and a UUID", c.Spec.Name)
	case c.Dir == "" && c.Media == Download:
		return fmt.Errorf("bmc of %s: downloaded media need a directory; set Dir or use Lazy media", c.Spec.Name)
	}
	for _, s := range c.Personality.Slots {
		if s.optical() {
			return nil
		}
	}
	return fmt.Errorf("bmc of %s: personality %q has no optical slot", c.Spec.Name, c.Personality.Name)
}
