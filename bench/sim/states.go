package sim

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"drship/internal/face"
	"drship/internal/state"
)

// atlas is which states machines were met in, and which changes between them, with how often.
type atlas struct {
	states, moves map[string]int
	last          map[string]string // by machine
}

func newAtlas() *atlas {
	return &atlas{states: map[string]int{}, moves: map[string]int{}, last: map[string]string{}}
}

// add takes over what another one has met.
func (a *atlas) add(other *atlas) {
	for name, n := range maps.All(other.states) {
		a.states[name] += n
	}
	for name, n := range maps.All(other.moves) {
		a.moves[name] += n
	}
}

// look notes a machine's states. It returns the state met now where that is another one than before, else nothing.
func (a *atlas) look(m *machine) string {
	at := a.name(m)
	was := a.last[m.name]
	if was == at {
		return ""
	}
	a.last[m.name] = at
	if was != "" {
		a.moves[was+" → "+at]++
	}
	return at
}

// name counts the parts of a machine's state and returns the whole of it.
func (a *atlas) name(m *machine) string {
	if m.node == nil {
		a.states["off"]++
		return "off"
	}
	f := m.status()
	if len(f.Volumes) == 0 || len(f.Peers) == 0 {
		a.states["down"]++
		return "down"
	}
	own := f.Volumes[0].Disk
	if s := f.Suspended; s.Any() {
		a.states["suspended "+strings.Join(reasons(s), "+")]++
	}
	a.states["role "+f.Role.String()]++
	a.states["disk "+own.String()]++
	var whole []string
	for i := range f.Peers {
		p := &f.Peers[i]
		conn := p.Conn
		if conn == state.Connected {
			conn = p.Volumes[0].Conn
		}
		a.states["connection "+conn.String()]++
		a.states["peer's role "+p.Role.String()]++
		a.states["peer's disk "+p.Volumes[0].Disk.String()]++
		whole = append(whole, fmt.Sprintf("%v, %v, %v/%v", conn, f.Role, own, p.Volumes[0].Disk))
	}
	together := "together " + strings.Join(whole, "; ")
	a.states[together]++
	return together
}

// write appends what was met to a file, if it has a name.
func (a *atlas) write(path, head string) error {
	if path == "" {
		return nil
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "%s met %v", head, a)
	return errors.Join(err, f.Close())
}

func (a *atlas) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d states, %d changes\n", len(a.states), len(a.moves))
	for _, all := range []map[string]int{a.states, a.moves} {
		for _, name := range slices.Sorted(maps.Keys(all)) {
			fmt.Fprintf(&b, "%8d  %s\n", all[name], strings.TrimPrefix(strings.ReplaceAll(name, " → together ", " → "), "together "))
		}
	}
	return b.String()
}

// look notes the states of all machines.
func (r *run) look() {
	for _, m := range r.machines {
		r.atlas.look(m)
	}
}

// pass lets time go by and looks at the states meanwhile.
func (r *run) pass(d time.Duration) {
	every := min(max(d/40, 2*time.Millisecond), 250*time.Millisecond)
	for end := time.Now().Add(d); ; {
		r.look()
		left := time.Until(end)
		if left <= 0 {
			return
		}
		time.Sleep(min(every, left))
	}
}

// lag is the age of the oldest write that a machine's first peer has not staged.
func (m *machine) lag() time.Duration {
	if f := m.status(); len(f.Peers) > 0 {
		return f.Peers[0].LagTime
	}
	return 0
}

// reasons of a suspension, by the words of status.
func reasons(s face.Suspended) []string {
	var out []string
	for _, r := range []struct {
		on   bool
		text string
	}{{s.User, "user"}, {s.NoData, "no-data"}, {s.Fencing, "fencing"}, {s.Quorum, "quorum"}} {
		if r.on {
			out = append(out, r.text)
		}
	}
	return out
}
