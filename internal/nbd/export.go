package nbd

import "context"

// Export is an open volume, as one connection sees it. Methods may be called concurrently. p is not kept after
// return. Offsets and lengths are in bytes, already checked against Size and the minimum block size.
//
// The context outlives the connection's: it ends only when a connection that is going down was given
// Config.DrainTimeout to finish and did not. Errors wrap the sentinels of this package or a syscall.Errno.
type Export interface {
	// Size is the size in bytes; it is asked once for each connection.
	Size() int64
	// BlockSizes are the constraints that the client is told, in bytes, e.g. 1, 4096, 32<<20. A maximum above
	// MaxPayload counts as MaxPayload.
	BlockSizes() (min, preferred, max uint32)
	// ReadOnly reports whether writes are refused; it is asked once for each connection.
	ReadOnly() bool
	// ReadAt fills p from off.
	ReadAt(ctx context.Context, p []byte, off int64) error
	// WriteAt writes p at off; with fua it returns after p is on stable storage.
	WriteAt(ctx context.Context, p []byte, off int64, fua bool) error
	// Zero makes n bytes at off read as zeroes.
	Zero(ctx context.Context, off, n int64, o ZeroOptions) error
	// Trim gives n bytes at off back; with fua it returns after that is on stable storage.
	Trim(ctx context.Context, off, n int64, fua bool) error
	// Flush returns after every write that was completed before the call, on any connection, is on stable storage.
	Flush(ctx context.Context) error
	// Extents describes allocation from off in consecutive runs, for at most n bytes; it may describe less, but
	// describes at least one byte. At most 65,536 runs are used.
	Extents(ctx context.Context, off, n int64) ([]Extent, error)
}

// ZeroOptions say how zeroes are to be written.
type ZeroOptions struct {
	FUA    bool // return after it is on stable storage
	NoHole bool // keep the space allocated
	Fast   bool // fail with ErrNotSupported, changing nothing, unless faster than writing zeroes as data
}

// Extent is a run of bytes of one status.
type Extent struct {
	Len  int64 // bytes, above 0
	Hole bool  // not allocated
	Zero bool  // reads as zeroes
}

// Directory finds exports by name. Its methods may be called concurrently.
type Directory interface {
	// Open opens an export for one connection; the function releases it when the connection ends, after the last
	// call to the export returned. It is also used to answer questions about an export, and released at once.
	// Errors: ErrUnknown, ErrShutdown, or a *PolicyError, whose text reaches the client.
	Open(ctx context.Context, name string, c Client) (Export, func(), error)
	// List names the exports that a client may see.
	List(ctx context.Context) []Info
}

// Info is what a client is told about an export beside its size. An Export that has a method `Info() Info` is
// described by it (so an alias tells its canonical name); any other by its entry in Directory.List.
type Info struct {
	Name        string
	Description string // one line for people; may be empty
}

// Client is who is at the other end of a connection.
type Client struct {
	Addr    string // remote address; "unix" for a unix socket
	PID     int    // process at the other end of a unix socket, else 0
	Command string // its command name, if known
	TLS     bool   // whether the connection is encrypted
}
