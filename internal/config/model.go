package config

import "time"

// Config is one whole configuration: read, merged, checked.
type Config struct {
	Path      string   // the file asked for
	Files     []string // every file read, in order
	Global    Global
	Common    Written // what all resources inherit
	HasCommon bool    // a common section stands in the file, maybe empty
	Resources []*Resource
	Warnings  []Warning

	globalPos Pos
	global    []Setting
	commonPos Pos
	addrs     []string // addresses of this machine, to find floating hosts
	byName    map[string]*Resource
}

// Resource returns the resource of that name, nil if there is none.
func (c *Config) Resource(name string) *Resource {
	return c.byName[name]
}

// Setting is one option as the administrator wrote it, under its name of today.
type Setting struct {
	Name  string
	Value string // "yes" for an option that stood alone
	Pos   Pos
}

// Set holds the options of a section that somebody wrote, by name; what is not in it is a default.
type Set map[string]Setting

// Has reports whether the option was written.
func (s Set) Has(name string) bool { _, ok := s[name]; return ok }

// Written is what stands at one level (common, resource, host, volume, connection), section by section, in order.
type Written struct {
	Net, Disk, Options, Startup, Handlers, Proxy, Plugin, Journal, WAN []Setting
}

// Global is the section of options that concern the whole node.
type Global struct {
	UsageCount        string // accepted, drship never calls home
	MinorCount        int
	DialogRefresh     time.Duration
	NBDListen         string // HOST:PORT, "" for the unix socket only
	AllowPlaintextNBD bool   // beyond loopback without TLS
	NBDTLSCert        string // file, PEM
	NBDTLSKey         string // file, PEM
	NBDTLSCA          string // file, PEM: clients must show a certificate of this authority
	MetricsListen     string // HOST:PORT or unix:PATH, "" for none
	CmdTimeoutShort   time.Duration
	CmdTimeoutMedium  time.Duration
	CmdTimeoutLong    time.Duration
	UdevAlwaysUseVNR  bool
	DisableIPVerify   bool
	Set               Set
}

// Resource is one replicated thing: volumes in one write order, and the hosts that hold them. The typed sections are
// effective at the level of the resource: defaults, common, template-file, resource.
type Resource struct {
	Name        string
	Pos         Pos
	Hosts       []*Host // in the order of the file
	Net         Net
	Disk        Disk
	Options     Options
	Handlers    map[string]string // name to shell line
	Startup     Startup
	Proxy       Proxy
	Journal     Journal
	WAN         WAN
	Connections []*Connection
	IgnoreOn    []string
	Stacked     bool     // one of its hosts stands on top of another resource
	Aliases     []string // names of the resources that stood on top of it: see Config.Unstacked

	Written  Written
	Template string  // path of its template-file, "" if none
	template Written // what it holds
	volumes  []*Volume
	config   *Config
}

// HostKind says how a host is told apart from others.
type HostKind uint8

// The kinds of host.
const (
	Named    HostKind = iota // on NAME …: by node name
	Floating                 // floating ADDRESS: by an address of the machine
	OnTop                    // stacked-on-top-of RESOURCE: every host of that lower resource
)

// Host is one place where the resource lives.
type Host struct {
	Kind        HostKind
	Name        string   // the first of Names; the address for a floating host; the lower resource's name with OnTop
	Names       []string // node names, several where they share an address; with OnTop those of the lower resource
	NodeID      int      // 0..31, given or counted
	Address     Address
	Fingerprint string // certificate-fingerprint "sha256:<64 hex digits>", "" if none
	Proxy       *ProxyHost
	Volumes     []*Volume // by number; inherited ones included
	Options     Options   // effective
	Lower       string    // with OnTop: the lower resource
	Written     Written
	Pos         Pos

	hasNodeID  bool
	volumes    []*Volume // as written here
	addressPos Pos
}

// Volume is one block device of a resource on one host.
type Volume struct {
	Number      uint16
	Device      string // "/dev/drbd0"
	Minor       int
	Disk        string // the backing device or file; "none" without one
	MetaDisk    string // "internal" or a device; accepted as DRBD has it, drship keeps metadata in its state directory
	MetaIndex   int    // slot on an indexed meta-disk, -1 if none
	DiskOptions Disk   // effective
	Written     Written
	Pos         Pos

	hasMinor, minorOnly, implicit bool
	devicePos, diskPos, metaPos   Pos
	flexibleMeta                  bool
}

// Diskless reports whether the host holds no data for the volume.
func (v *Volume) Diskless() bool { return v.Disk == "none" }

// Connection is an explicit link between two hosts, or a mesh of them.
type Connection struct {
	Mesh    bool          // connection-mesh
	Hosts   []string      // mesh: its hosts
	Ends    []Endpoint    // connection: two, or none where Paths are given
	Paths   [][2]Endpoint // path sections
	Net     Net           // effective
	WAN     WAN           // effective
	Volumes map[uint16]Written
	Written Written
	Pos     Pos
	order   []uint16 // keys of Volumes, as written
}

// Endpoint names one host of a connection, with what it does differently there.
type Endpoint struct {
	Host    string
	Address Address // zero: the host's
	Port    uint16  // 0: the host's
	Proxy   *ProxyHost
	Pos     Pos
}

// ProxyHost is a proxy on HOST section. drship needs no proxy: it talks from Outside to Outside.
type ProxyHost struct {
	Hosts   []string
	Inside  Address
	Outside Address
	Pos     Pos
}

// Peer is another host as seen from one host: what the link between them needs.
type Peer struct {
	Host   *Host
	Net    Net  // effective for that connection
	WAN    WAN  // effective for that connection
	Disk   Disk // effective resync options for that connection
	Local  Address
	Remote Address
	Paths  [][2]Address // more paths, local and remote, beside the first

	conn *Connection // nil where no connection section names the pair
}

// Net is what a connection may be told.
type Net struct {
	Protocol             byte // 'A', 'B' or 'C'
	Timeout              time.Duration
	PingTimeout          time.Duration
	ConnectInt           time.Duration
	PingInt              time.Duration
	SocketCheckTimeout   time.Duration
	KoCount              int // 0: never
	MaxEpochSize         int
	MaxBuffers           int // pages of 4 KiB
	SndbufSize           int64
	RcvbufSize           int64
	CramHMACAlg          string
	SharedSecret         string
	AfterSB0             string
	AfterSB1             string
	AfterSB2             string
	AlwaysASBP           bool
	AllowTwoPrimaries    bool // always false: refused
	RRConflict           string
	DataIntegrityAlg     string
	CsumsAlg             string
	CsumsAfterCrashOnly  bool
	VerifyAlg            string
	VerifySchedule       string // cron's five fields, "" for none
	VerifyRepair         string // off, on, ask
	VerifyRate           int64  // bytes a second, 0: paced like a resync
	UseRLE               bool
	OnCongestion         string
	CongestionFill       int64 // bytes, 0: off
	CongestionExtents    int
	Fencing              string
	Transport            string
	AllowUnauthenticated bool
	AllowRemoteRead      bool
	Set                  Set
}

// Disk is what a volume, or its resync, may be told.
type Disk struct {
	OnIOError            string
	Size                 int64 // bytes, 0: the device's
	DiskTimeout          time.Duration
	ALExtents            int
	ResyncRate           int64  // bytes a second; 0: not set, the resync is paced by what is measured
	ResyncAfter          string // resource or resource/volume
	CPlanAhead           time.Duration
	CFillTarget          int64 // bytes
	CDelayTarget         time.Duration
	CMaxRate             int64 // bytes a second
	CMinRate             int64 // bytes a second
	RsDiscardGranularity int64 // bytes, 0: off
	DiscardGranularity   int64 // bytes, 0: the device's
	BlockSize            int64 // bytes
	Set                  Set
}

// Options is the section of resource options.
type Options struct {
	CPUMask             string
	OnNoDataAccessible  string
	AutoPromote         bool
	AutoPromoteTimeout  time.Duration
	Quorum              string
	QuorumMinRedundancy string
	OnNoQuorum          string
	OnSuspendedOutdated string
	TwoPCTimeout        time.Duration
	TwoPCRetryTimeout   time.Duration
	MaxIODepth          int
	Set                 Set
}

// Startup is what the start of the node waits for. A zero time waits for ever.
type Startup struct {
	WFCTimeout         time.Duration
	DegrWFCTimeout     time.Duration
	OutdatedWFCTimeout time.Duration
	WaitAfterSB        bool
	StackedTimeouts    bool
	BecomePrimaryOn    []string // host names, or "both"
	Set                Set
}

// Proxy is DRBD Proxy's section: read, and turned into WAN settings where WAN itself is silent.
type Proxy struct {
	MemLimit int64  // bytes
	Plugin   string // zstd, zlib, lz4, lzma; "" if none
	Level    int    // 0: none given
	Set      Set
}

// Journal bounds the store of a resource.
type Journal struct {
	MaxSize    int64  // bytes of records kept for peers
	OnFull     string // pull-ahead, block, disconnect
	MaxHistory int64  // bytes of pre-images
	MaxStaged  int64  // bytes staged and not yet applied
	Set        Set
}

// WAN is how the link saves bytes and shares the line.
type WAN struct {
	Compression  string // zstd, s2, off, auto
	Level        int    // zstd's, 0: chosen at run time
	Fold         bool
	Delta        bool
	Dedupe       bool
	CacheSize    int64         // bytes
	LinkRate     int64         // bytes a second, 0: no ceiling
	FEC          string        // auto, on, off
	RateSchedule string        // see ParseRateSchedule, "" for none
	MaxStripes   int           // connections at most
	LagLimit     time.Duration // 0: no alarm
	PeerSilent   time.Duration // 0: no alarm
	Set          Set
}
