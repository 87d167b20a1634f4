package stamp

import (
	"fmt"
	"slices"
	"sync"
	"time"
)

// Kind of an operation.
type Kind uint8

// The kinds.
const (
	Write  Kind = iota + 1 // stamped cells
	Source                 // bytes of a given source: see CheckOptions.Source
	Zero                   // write zeroes
	Trim                   // trim: reads as zeroes afterwards
	Flush
)

func (k Kind) String() string {
	switch k {
	case Write:
		return "write"
	case Source:
		return "source write"
	case Zero:
		return "write zeroes"
	case Trim:
		return "trim"
	case Flush:
		return "flush"
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// Op is one request of a client, with its place in real order: Begun < Done, and an operation whose Done is smaller than
// another's Begun was over before that one was submitted.
type Op struct {
	ID     uint64 // from 1, in the order of Begun
	Kind   Kind
	Volume uint16
	Cell   int64 // first cell
	Cells  int64
	FUA    bool

	Begun, Done int64     // moments on the log's clock; Done 0: never acknowledged
	Failed      bool      // answered by an error, or by a connection that ended: it may have happened or not
	At          time.Time // when it was acknowledged
}

// End is the cell behind the last.
func (o *Op) End() int64 { return o.Cell + o.Cells }

// Bytes that the operation covers.
func (o *Op) Bytes() int64 { return o.Cells * CellSize }

func (o *Op) covers(volume uint16, cell int64) bool {
	return o.Volume == volume && o.Cell <= cell && cell < o.End()
}

// before reports whether o was acknowledged before p was submitted.
func (o *Op) before(p *Op) bool { return o.Done != 0 && o.Done < p.Begun }

func (o *Op) String() string {
	done := "never acknowledged"
	if o.Done != 0 {
		done = fmt.Sprintf("acknowledged at %d", o.Done)
	}
	return fmt.Sprintf("#%d %v of volume %d [%d,+%d) submitted at %d, %s", o.ID, o.Kind, o.Volume, o.Cell*CellSize, o.Bytes(), o.Begun, done)
}

// Log records operations of any number of clients in real order. Its clock counts submissions and acknowledgements.
type Log struct {
	mu    sync.Mutex
	clock int64
	first uint64 // ID of ops[0]
	ops   []Op
}

// NewLog returns an empty log whose operations are numbered from first on, which is at least 1: a new phase over the same volumes goes on counting, so
// that stamps stay unique.
func NewLog(first uint64) *Log { return &Log{first: max(first, 1)} }

// Begin records that o is about to be submitted, and returns its ID.
func (l *Log) Begin(o Op) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clock++
	o.ID, o.Begun = l.first+uint64(len(l.ops)), l.clock
	l.ops = append(l.ops, o)
	return o.ID
}

// End records how an operation was answered.
func (l *Log) End(id uint64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	o := &l.ops[id-l.first]
	if err != nil {
		o.Failed = true
		return
	}
	l.clock++
	o.Done, o.At = l.clock, time.Now()
}

// Ops returns a copy of everything so far, by ID.
func (l *Log) Ops() []Op {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.ops)
}

// Next is the ID that the next operation gets.
func (l *Log) Next() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.first + uint64(len(l.ops))
}

// Acknowledged counts the operations answered well so far.
func (l *Log) Acknowledged() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.ops {
		if l.ops[i].Done != 0 {
			n++
		}
	}
	return n
}

// Flushed returns which operations a completed flush, or their own FUA, has made durable.
func Flushed(ops []Op) map[uint64]bool {
	var last int64 // the newest submission of a completed flush
	for i := range ops {
		if ops[i].Kind == Flush && ops[i].Done != 0 {
			last = max(last, ops[i].Begun)
		}
	}
	out := map[uint64]bool{}
	for i := range ops {
		o := &ops[i]
		if o.Kind != Flush && o.Done != 0 && (o.FUA || o.Done < last) {
			out[o.ID] = true
		}
	}
	return out
}
