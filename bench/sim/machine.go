package sim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"path/filepath"
	"sync/atomic"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"drship/cmd/drship/control"
	"drship/cmd/drship/node"
	"drship/internal/config"
	"drship/internal/disk"
	"drship/internal/nbd"
	"drship/journal"
)

// machine is one machine: what survives a loss of power, and the node that runs on it.
type machine struct {
	name  string
	dir   string // on the real file system: the node's identity, nothing else
	world *world
	rng   *rand.Rand
	conf  string
	log   io.Writer
	dwell time.Duration
	rate  int64 // what its disks move, bytes a second; 0 without limit
	wire  uint8 // the wire version that it speaks; 0: the newest

	fs     *vfs.MemFS
	store  trouble // of the file system
	disks  []*disk.Mem
	fails  disk.Plan    // what goes wrong with the disks
	broken [4]disk.Plan // what goes wrong with one of them
	pace   atomic.Int64 // nanoseconds that a write to a disk takes at most
	skew   atomic.Int64 // nanoseconds that the machine's clock is ahead of the true time

	node  *node.Node // nil while off
	alive context.Context
	off   context.CancelFunc
}

func newMachine(w *world, name, dir string, p plan, seed uint64, log io.Writer) *machine {
	m := &machine{name: name, dir: dir, world: w, conf: p.config(), log: log, dwell: p.dwell, rng: rand.New(rand.NewPCG(seed, uint64(name[0]))), fs: vfs.NewCrashableMem()}
	size := p.size
	if size == 0 {
		size = volumeSize
	}
	if name == "bob" {
		m.rate = p.bobDisk
	}
	m.pace.Store(int64(quickDisk))
	if m.dwell == 0 {
		m.dwell = 5 * time.Second
	}
	for i := range p.volumes {
		d := disk.NewMem(size, seed+uint64(i))
		if p.carried {
			fill(d)
		}
		m.disks = append(m.disks, d)
	}
	return m
}

// fill writes what does not compress, the same on every disk. It panics where memory fails.
func fill(d *disk.Mem) {
	rng := rand.NewChaCha8([32]byte{7})
	buf := make([]byte, 1<<20)
	for off := int64(0); off < d.Size(); off += int64(len(buf)) {
		_, _ = rng.Read(buf) // never fails
		if err := d.WriteAt(buf[:min(int64(len(buf)), d.Size()-off)], off); err != nil {
			panic(err)
		}
	}
}

func (m *machine) power() context.Context { return m.alive }

const (
	quickDisk = 200 * time.Microsecond
	slowDisk  = 20 * time.Millisecond
	memTable  = 1 << 20 // of a store: small, so that tables are written and merged within a run
)

// slow is a disk that takes its time, so that a loss of power can come between any two requests, and a read amid a write.
type slow struct {
	disk.Disk
	rng  func() time.Duration
	rate int64
}

// moves is how long n bytes take.
func (d slow) moves(n int) time.Duration {
	if d.rate == 0 {
		return 0
	}
	return time.Duration(float64(n) / float64(d.rate) * float64(time.Second))
}

// ReadAt implements disk.Disk.
func (d slow) ReadAt(p []byte, off int64) error {
	time.Sleep(d.moves(len(p)))
	return d.Disk.ReadAt(p, off)
}

// WriteAt implements disk.Disk. Half of a long write comes first.
func (d slow) WriteAt(p []byte, off int64) error {
	time.Sleep(d.rng() + d.moves(len(p)))
	if half := len(p) / 2 &^ 4095; half > 0 {
		if err := d.Disk.WriteAt(p[:half], off); err != nil {
			return err
		}
		time.Sleep(d.rng())
		p, off = p[half:], off+int64(half)
	}
	return d.Disk.WriteAt(p, off)
}

// Sync implements disk.Disk.
func (d slow) Sync() error {
	time.Sleep(10 * d.rng())
	return d.Disk.Sync()
}

// start switches the machine on and brings its resource up.
func (m *machine) start() error {
	m.alive, m.off = context.WithCancel(context.Background())
	disks := m.disks
	seed := m.rng.Uint64()
	env := node.Env{
		StateDir: filepath.Join(m.dir, m.name), RunDir: m.dir, Node: m.name, FS: shaky{m.fs, &m.store}, AheadDwell: m.dwell, Now: m.clock, WireVersion: m.wire,
		Logger:     slog.New(slog.NewTextHandler(m.log, nil)).With("node", m.name),
		LoadConfig: func() (*config.Config, error) { return config.Parse("sim.conf", []byte(m.conf), config.ParseOptions{}) },
		OpenDisk: func(path string) (disk.Disk, error) {
			var i int
			if _, err := fmt.Sscanf(path, "/sim/"+m.name+"/%d", &i); err != nil || i >= len(disks) {
				return nil, fmt.Errorf("no disk %s", path)
			}
			disks[i].Reopen()
			return slow{disk.Faulty(disk.Faulty(disks[i], &m.broken[i]), &m.fails), m.jitter(seed, uint64(i)), m.rate}, nil
		},
		Store: func(o *journal.Options) {
			o.MemTable = memTable
			took := m.jitter(seed, 1000)
			o.BeforeSync = func() { time.Sleep(5 * took()) }
		},
		ListenPacket: func(_ context.Context, addr string) (net.PacketConn, error) { return m.world.listen(m, addr) },
	}
	n, err := node.New(env)
	if err != nil {
		return err
	}
	m.node = n
	return nil
}

// clock is what the machine's clock says.
func (m *machine) clock() time.Time { return time.Now().Add(time.Duration(m.skew.Load())) }

// jitter draws times up to what the machine's disks take. A channel guards it: whoever waited for a mutex would stop the clock.
func (m *machine) jitter(seed, stream uint64) func() time.Duration {
	rng := rand.New(rand.NewPCG(seed, stream))
	lock := make(chan struct{}, 1)
	return func() time.Duration {
		lock <- struct{}{}
		defer func() { <-lock }()
		return time.Duration(rng.Int64N(m.pace.Load()))
	}
}

// do carries out a verb on the machine's resource.
func (m *machine) do(verb string, options ...string) error {
	given := map[string]string{}
	for _, o := range options {
		given[o] = "yes"
	}
	_, err := m.ask(verb, given)
	return err
}

// ask carries out a verb with options that have values, and returns what it says.
func (m *machine) ask(verb string, options map[string]string) ([]string, error) {
	q := control.Request{Verb: verb, Resource: "r0", Volume: control.AnyVolume, Options: options}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	reply, err := m.node.Do(ctx, q)
	if err != nil {
		return nil, fmt.Errorf("%s: %s: %w", m.name, verb, err)
	}
	var lines []string
	for i := range reply.Results {
		lines = append(lines, reply.Results[i].Lines...)
		if err := reply.Results[i].Err(); err != nil {
			return lines, fmt.Errorf("%s: %s: %w %s", m.name, verb, err, reply.Results[i].Hint)
		}
	}
	return lines, nil
}

// fault is how a machine goes down.
type fault int

const (
	killed    fault = iota // the process is gone, the system keeps what it was given
	powerLoss              // what was not synced may be lost, in whole or in part
)

// crash takes the machine down in the middle of whatever it does. The world stands still while its disks and files are
// taken over: everybody waits for the clock.
func (m *machine) crash(f fault) {
	synctest.Wait()
	m.off()
	survives := 100
	if f == powerLoss {
		survives = m.rng.IntN(101)
	}
	next := m.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: survives, RNG: m.rng})
	var disks []*disk.Mem
	for _, d := range m.disks {
		if f == powerLoss {
			disks = append(disks, d.CrashClone())
		} else {
			disks = append(disks, d.Clone())
		}
	}
	m.fs, m.disks = next, disks
	m.bury()
}

// bury ends the crashed node on what it had; nobody sees it any more.
func (m *machine) bury() {
	n := m.node
	m.node = nil
	n.Close()
}

// stop takes the machine down in order.
func (m *machine) stop() {
	if m.node != nil {
		m.bury()
		m.off()
	}
}

// volume is a client's connection to one volume of a machine. What it answers after a crash nobody has heard.
type volume struct {
	m     *machine
	alive context.Context
	x     nbd.Export
	close func()
}

var errNoAnswer = errors.New("the machine crashed before it answered")

func (m *machine) open(i int) (*volume, error) {
	name := "r0"
	if i > 0 {
		name = fmt.Sprintf("r0/%d", i)
	}
	x, closer, err := m.node.Exports().Open(context.Background(), name, nbd.Client{Addr: "sim"})
	if err != nil {
		return nil, fmt.Errorf("open %s on %s: %w", name, m.name, err)
	}
	return &volume{m: m, alive: m.alive, x: x, close: closer}, nil
}

func (v *volume) answer(err error) error {
	if v.alive.Err() != nil {
		return errNoAnswer
	}
	return err
}

// WriteAt implements stamp.Target.
func (v *volume) WriteAt(ctx context.Context, p []byte, off int64, fua bool) error {
	return v.answer(v.x.WriteAt(ctx, p, off, fua))
}

// Zero implements stamp.Target.
func (v *volume) Zero(ctx context.Context, off, n int64) error {
	return v.answer(v.x.Zero(ctx, off, n, nbd.ZeroOptions{}))
}

// Trim implements stamp.Target.
func (v *volume) Trim(ctx context.Context, off, n int64) error {
	return v.answer(v.x.Trim(ctx, off, n, false))
}

// Flush implements stamp.Target.
func (v *volume) Flush(ctx context.Context) error { return v.answer(v.x.Flush(ctx)) }

// image is what a machine's disk holds, read past the node.
type image struct{ d *disk.Mem }

// ReadAt implements io.ReaderAt.
func (i image) ReadAt(p []byte, off int64) (int, error) {
	if err := i.d.ReadAt(p, off); err != nil {
		return 0, err
	}
	return len(p), nil
}
