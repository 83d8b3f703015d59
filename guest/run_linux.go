package guest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

// Run is the life of the first process of a VM. It does not return: it beats
// until its orders or the power button end it.
func Run() {
	g := &machine{begun: time.Now()}
	g.mount()
	g.console = openConsole()
	g.load()
	g.boot = newBoot()
	g.obey()
	go g.awaitButton()
	signal.Ignore(syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM, syscall.SIGPIPE)
	g.beats()
}

// machine is the guest while it runs. Its workers tell what they see through
// say; beats tells the world.
type machine struct {
	orders  Orders
	begun   time.Time
	console *os.File
	boot    string

	mu   sync.Mutex
	beat Beat
}

// say changes what the next line tells.
func (g *machine) say(change func(*Beat)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	change(&g.beat)
}

// fault tells what went wrong. A guest goes on whatever goes wrong: its words
// are all that others see of it.
func (g *machine) fault(err error) {
	if err != nil {
		g.say(func(b *Beat) { b.Fault = err.Error() })
	}
}

func (g *machine) mount() {
	for _, m := range []struct{ kind, at string }{{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}} {
		if err := os.MkdirAll(m.at, 0o755); err != nil {
			g.fault(err)
			continue
		}
		if err := syscall.Mount(m.kind, m.at, m.kind, 0, ""); err != nil && err != syscall.EBUSY {
			g.fault(fmt.Errorf("mount %s: %w", m.at, err))
		}
	}
}

// openConsole opens the serial port, which is what KubeVirt keeps the words of.
func openConsole() *os.File {
	for _, name := range []string{"/dev/ttyS0", "/dev/console"} {
		if f, err := os.OpenFile(name, os.O_RDWR|syscall.O_NOCTTY, 0); err == nil {
			return f
		}
	}
	return os.Stdout
}

// load gives the kernel its modules, in the order of the list. One whose needs
// come later in it is tried again after them.
func (g *machine) load() {
	list, err := os.ReadFile(moduleList)
	if err != nil {
		return // a kernel that has all built in
	}
	left := strings.Fields(string(list))
	for loaded := true; loaded && len(left) > 0; {
		loaded, err = false, nil
		var again []string
		for _, name := range left {
			if wrong := loadFile(moduleFolder + filepath.Base(name)); wrong != nil {
				again, err = append(again, name), fmt.Errorf("load %s: %w", name, wrong)
				continue
			}
			loaded = true
		}
		left = again
	}
	g.fault(err)
	os.RemoveAll(moduleFolder) // the memory is more use than the files
}

func loadFile(path string) error {
	data, err := os.ReadFile(path)
	if err != nil || len(data) == 0 {
		return err
	}
	return loadModule(data)
}

func loadModule(data []byte) error {
	none := []byte{0}
	_, _, errno := syscall.Syscall(syscall.SYS_INIT_MODULE, uintptr(unsafe.Pointer(&data[0])), uintptr(len(data)), uintptr(unsafe.Pointer(&none[0])))
	if errno != 0 && errno != syscall.EEXIST {
		return errno
	}
	return nil
}

// sysGetrandom and insecure ask for random bytes without waiting for the pool
// to fill, which an emulated machine does late: getrandom(2), GRND_INSECURE. A
// boot's name is no secret; the clocks are mixed in for machines that start alike.
const (
	sysGetrandom = 318
	insecure     = 4
)

func newBoot() string {
	random := make([]byte, 32)
	syscall.Syscall(sysGetrandom, uintptr(unsafe.Pointer(&random[0])), uintptr(len(random)), insecure)
	uptime, _ := os.ReadFile("/proc/uptime")
	id, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	sum := sha256.Sum256(fmt.Appendf(random, "%d %s %s", time.Now().UnixNano(), uptime, id))
	return hex.EncodeToString(sum[:bootLength/2])
}

// obey reads the orders and starts what they ask for.
func (g *machine) obey() {
	commandLine, err := os.ReadFile("/proc/cmdline")
	g.fault(err)
	g.orders, err = ParseOrders(strings.TrimSpace(string(commandLine)))
	g.fault(err)
	g.say(func(b *Beat) { b.Nonce, b.Boot = g.orders.Nonce, g.boot })
	if g.orders.Disk != "" {
		go g.useDisk()
	}
	if g.orders.Cloud != "" {
		go g.readCloud()
	}
	go func() {
		g.configure()
		if g.orders.Listen != 0 {
			go g.listen()
		}
		if g.orders.Ping.IsValid() {
			go g.ping()
		}
		if g.orders.Dial.IsValid() {
			go g.dial()
		}
	}()
}

// beats writes the lines. The pace is kept by the guest's own clock, which
// stands still while the VM is paused: a gap shows in the times at which others
// read the lines, not in their numbers.
func (g *machine) beats() {
	for tick := time.NewTicker(g.orders.Beat); ; <-tick.C {
		g.mu.Lock()
		g.beat.Seq++
		g.beat.Up = uptime(g.begun)
		line := g.beat.Line()
		g.mu.Unlock()
		g.console.WriteString(line + "\n")
		if g.orders.Life > 0 && time.Since(g.begun) >= g.orders.Life {
			powerOff()
		}
	}
}

// uptime is the kernel's own, or that of this process.
func uptime(begun time.Time) time.Duration {
	var info syscall.Timespec
	const bootClock = 7 // CLOCK_BOOTTIME
	if _, _, errno := syscall.Syscall(syscall.SYS_CLOCK_GETTIME, bootClock, uintptr(unsafe.Pointer(&info)), 0); errno != 0 {
		return time.Since(begun)
	}
	return time.Duration(info.Nano())
}

func powerOff() {
	syscall.Sync()
	syscall.Reboot(syscall.LINUX_REBOOT_CMD_POWER_OFF)
}

// awaitButton ends the machine when its power button is pressed, which is how a
// VM is asked to stop. Source: struct input_event of <linux/input.h>.
func (g *machine) awaitButton() {
	const (
		size    = 24
		isKey   = 1
		isPower = 116
	)
	inputs, _ := filepath.Glob("/dev/input/event*")
	for _, name := range inputs {
		f, err := os.Open(name)
		if err != nil {
			continue
		}
		go func() {
			defer f.Close()
			event := make([]byte, size)
			for {
				if n, err := f.Read(event); err != nil || n != size {
					return
				}
				kind, key, value := event[16], event[18], event[20]
				if kind == isKey && key == isPower && value == 1 {
					powerOff()
				}
			}
		}()
	}
}
