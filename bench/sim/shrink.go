package sim

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// edit makes one thing in a plan simpler. It is written as the number of a moment, as drawn, and a letter, "2c"; or as a letter alone.
type edit struct {
	moment int // from 1; 0: the whole plan
	what   byte
}

// What an edit does: to a moment, and to the whole plan.
const (
	dropMoment = '-'
	cleanLine  = 'l'
	noCut      = 'c'
	noCrash    = 'v'
	noSecond   = 'a' // crash during recovery
	noFailover = 'f'
	shortLoad  = 's'
	noAbsence  = 'b' // behind
	quickDisks = 'd'
	noSkew     = 'k'
	noSwap     = 'r' // change of roles
	noRot      = 't'
	noSickness = 'x' // of a store
	oneVolume  = 'o'
)

var momentEdits = []byte{dropMoment, noCrash, noCut, noAbsence, noSickness, noFailover, noSecond, cleanLine, quickDisks, noSkew, noSwap, noRot, shortLoad}

// shortestLoad is what shortLoad leaves.
const shortestLoad = 20 * time.Millisecond

func (e edit) String() string {
	if e.moment == 0 {
		return string(e.what)
	}
	return strconv.Itoa(e.moment) + string(e.what)
}

// parseEdits reads a list as format writes it: "2-,1c,o".
func parseEdits(s string) ([]edit, error) {
	var edits []edit
	for _, word := range strings.FieldsFunc(s, func(r rune) bool { return r == ',' }) {
		e := edit{what: word[len(word)-1]}
		if digits := word[:len(word)-1]; digits != "" {
			n, err := strconv.Atoi(digits)
			if err != nil || n < 1 || !slices.Contains(momentEdits, e.what) {
				return nil, fmt.Errorf("edit %q: want the number of a moment and one of %q", word, momentEdits)
			}
			e.moment = n
		} else if e.what != oneVolume {
			return nil, fmt.Errorf("edit %q: want %q", word, string(oneVolume))
		}
		edits = append(edits, e)
	}
	return edits, nil
}

func formatEdits(edits []edit) string {
	words := make([]string, len(edits))
	for i, e := range edits {
		words[i] = e.String()
	}
	return strings.Join(words, ",")
}

// edited returns the plan with the edits made.
func (p plan) edited(edits []edit) plan {
	moments := slices.Clone(p.moments)
	dropped := make([]bool, len(moments))
	for _, e := range edits {
		switch {
		case e.moment == 0:
			p.volumes = 1
		case e.moment > len(moments):
		case e.what == dropMoment:
			dropped[e.moment-1] = true
		default:
			moments[e.moment-1].simplify(e.what)
		}
	}
	p.moments = nil
	for i, m := range moments {
		if !dropped[i] {
			p.moments = append(p.moments, m)
		}
	}
	return p
}

func (m *moment) simplify(what byte) {
	switch what {
	case cleanLine:
		m.line = line{delay: time.Millisecond}
	case noCut:
		m.cutAt, m.cutFor, m.oneWay = 0, 0, false
	case noCrash:
		m.victim, m.fault, m.gap, m.failover, m.again, m.sick, m.rot = nobody, 0, 0, false, 0, 0, false
	case noAbsence:
		m.behind = 0
		m.failover = m.failover && m.victim != nobody
	case quickDisks:
		m.slow = false
	case noSwap:
		m.swap = false
	case noRot:
		m.rot = false
	case noSkew:
		m.skew = 0
	case noSickness:
		m.sick = 0
	case noSecond:
		m.again = 0
	case noFailover:
		m.failover = false
	case shortLoad:
		m.load = min(m.load, shortestLoad)
		m.cutAt = min(m.cutAt, m.load)
	}
}

// shrink drops and simplifies what a failing plan, p with edits made, does not need to fail. It asks fails at most limit times and
// returns all edits.
func shrink(p plan, edits []edit, limit int, fails func(plan) bool) []edit {
	for again := true; again; {
		again = false
		for _, e := range candidates(p) {
			tried := append(slices.Clone(edits), e)
			if slices.Contains(edits, e) || same(p.edited(tried), p.edited(edits)) {
				continue
			}
			if limit--; limit < 0 {
				return edits
			}
			if fails(p.edited(tried)) {
				edits, again = tried, true
			}
		}
	}
	return edits
}

func candidates(p plan) []edit {
	var all []edit
	for _, what := range momentEdits {
		for i := range p.moments {
			all = append(all, edit{moment: i + 1, what: what})
		}
	}
	return append(all, edit{what: oneVolume})
}

func same(a, b plan) bool {
	return a.volumes == b.volumes && slices.Equal(a.moments, b.moments)
}
