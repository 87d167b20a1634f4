package stripe

import "fmt"

// Assembly puts the fragments of a lane into their places. It holds no more than its window. The caller guards it with a
// lock.
//
//	taken ≤ done ≤ limit = taken + window
type Assembly struct {
	window int64
	taken  int64 // place behind the last message that was handed over
	done   int64 // place behind the last message before which nothing is missing
	held   int64 // bytes of messages that are here, in whole or in part
	parts  map[int64]*part
}

// part is a message of which something has come.
type part struct {
	body  []byte
	cells []bool // that are there
	left  int    // cells that are missing
}

// NewAssembly begins a lane with room for that many bytes.
func NewAssembly(window int64) *Assembly { return &Assembly{window: window, parts: map[int64]*part{}} }

// Place puts a fragment where it belongs; data is copied. What is there already is let go. It reports whether a message
// became ready to be taken. An error means that the peer broke the rules.
func (a *Assembly) Place(h Header, data []byte) (ready bool, err error) {
	if h.Place < a.done {
		return false, nil // sent again, and both have come
	}
	p, err := a.part(h)
	if err != nil {
		return false, err
	}
	first, n := int(h.Start/Cell), cells(h.Length)
	missing := 0
	for _, there := range p.cells[first : first+n] {
		if !there {
			missing++
		}
	}
	if missing == 0 {
		return false, nil
	}
	for i := first; i < first+n; i++ {
		if p.cells[i] {
			continue
		}
		at := i * Cell
		copy(p.body[at:min(at+Cell, len(p.body))], data[at-int(h.Start):])
		p.cells[i] = true
	}
	p.left -= missing
	if p.left > 0 || h.Place != a.done {
		return false, nil
	}
	for p := a.parts[a.done]; p != nil && p.left == 0; p = a.parts[a.done] {
		a.done += int64(len(p.body))
	}
	return true, nil
}

// part finds the message of a fragment, or makes room for it.
func (a *Assembly) part(h Header) (*part, error) {
	if p := a.parts[h.Place]; p != nil {
		if len(p.body) != int(h.Total) {
			return nil, fmt.Errorf("%w: the message at %d has %d bytes, and %d", ErrRecord, h.Place, len(p.body), h.Total)
		}
		return p, nil
	}
	if h.Place+int64(h.Total) > a.taken+a.window || a.held+int64(h.Total) > a.window {
		return nil, fmt.Errorf("%w: %d bytes at %d, there is room from %d for %d", ErrRecord, h.Total, h.Place, a.taken, a.window)
	}
	n := cells(h.Total)
	p := &part{body: make([]byte, h.Total), cells: make([]bool, n), left: n}
	a.parts[h.Place] = p
	a.held += int64(h.Total)
	return p, nil
}

// Take hands over the next message, nil where it is not whole yet. The message is the caller's.
func (a *Assembly) Take() []byte {
	if a.taken == a.done {
		return nil
	}
	p := a.parts[a.taken]
	delete(a.parts, a.taken)
	a.taken += int64(len(p.body))
	a.held -= int64(len(p.body))
	return p.body
}

// Done is the place up to which everything has come.
func (a *Assembly) Done() int64 { return a.done }

// Limit is the place up to which there is room.
func (a *Assembly) Limit() int64 { return a.taken + a.window }

// Held is how many bytes messages take that are here and not handed over.
func (a *Assembly) Held() int64 { return a.held }

func cells(n uint32) int { return int((uint64(n) + Cell - 1) / Cell) }
