package stamp

import (
	"math"
	"slices"
)

// span is a range of moments, both ends included.
type span struct{ from, to int64 }

// moments is a set of them: sorted, disjoint spans.
type moments []span

// union adds a span.
func (m moments) union(s span) moments {
	m = append(m, s)
	slices.SortFunc(m, func(a, b span) int { return int(min(max(a.from-b.from, -1), 1)) })
	out := m[:1]
	for _, s := range m[1:] {
		last := &out[len(out)-1]
		if s.from <= last.to {
			last.to = max(last.to, s.to)
		} else {
			out = append(out, s)
		}
	}
	return out
}

// intersect returns what both allow.
func (m moments) intersect(q moments) moments {
	var out moments
	for i, j := 0, 0; i < len(m) && j < len(q); {
		s := span{max(m[i].from, q[j].from), min(m[i].to, q[j].to)}
		if s.from <= s.to {
			out = append(out, s)
		}
		if m[i].to < q[j].to {
			i++
		} else {
			j++
		}
	}
	return out
}

// covers reports whether m is one span around all of q, so that intersecting them leaves q.
func (m moments) covers(q moments) bool {
	return len(m) == 1 && len(q) > 0 && m[0].from <= q[0].from && q[len(q)-1].to <= m[0].to
}

// precedes reports whether x (or base) was certainly before y in the write order.
func (k *checker) precedes(x, y int) bool {
	return x == base || k.ops[x].before(&k.ops[y])
}

// cell takes in what one cell says: covering are the operations on it, holds what it may hold.
func (k *checker) cell(v uint16, cell int64, covering, holds []int) {
	here := sight{seen: true, volume: v, cell: cell, holds: holds[0]}
	only := len(holds) == 1 && holds[0] != base
	if only {
		k.present[holds[0]] = here
	}
	for _, x := range covering {
		if k.isAbsent(x, holds) {
			k.absent[x] = here
		} else if only && x != holds[0] && !k.precedes(x, holds[0]) {
			k.newer[[2]int{x, holds[0]}] = here // concurrent: the cell tells which came last, if both are there
		}
	}
	if k.o.Prefix {
		k.narrow(k.moments(covering, holds), here)
	}
}

// narrow leaves the moments that a cell allows as well.
func (k *checker) narrow(allowed moments, here sight) {
	if allowed.covers(k.allowed) {
		return
	}
	narrowed := k.allowed.intersect(allowed)
	if len(narrowed) > 0 {
		k.allowed = narrowed
	} else if k.conflict == nil {
		k.conflict = &here
	}
}

// isAbsent reports whether x is certainly not on the image: whatever the cell holds comes before it.
func (k *checker) isAbsent(x int, holds []int) bool {
	for _, h := range holds {
		if h == x || !k.precedes(h, x) {
			return false
		}
	}
	return true
}

// moments returns when the image may have been cut, by one cell: behind the submission of what it holds, and before the
// acknowledgement of anything that certainly followed.
func (k *checker) moments(covering, holds []int) moments {
	var out moments
	for _, h := range holds {
		s := span{0, math.MaxInt64}
		if h != base {
			s.from = k.ops[h].Begun
		}
		for _, x := range covering {
			if x != h && k.ops[x].Done != 0 && k.precedes(h, x) {
				s.to = min(s.to, k.ops[x].Done)
			}
		}
		if s.from <= s.to {
			out = out.union(s)
		}
	}
	return out
}

// finish judges what only the whole image shows.
func (k *checker) finish() {
	for i := range k.ops {
		o := &k.ops[i]
		if k.present[i].seen {
			k.report.Present++
		}
		a := k.absent[i]
		if !a.seen {
			continue
		}
		if o.Done != 0 {
			k.report.Missing = append(k.report.Missing, o)
		}
		if k.o.Must != nil && k.o.Must(o) {
			k.report.violate("%v is missing: offset %d holds %s", o, a.cell*CellSize, k.name(a.holds))
		}
		if p := k.present[i]; k.o.Prefix && p.seen {
			k.report.violate("%v is torn: present at offset %d, missing at %d, which holds %s", o, p.cell*CellSize, a.cell*CellSize, k.name(a.holds))
		}
	}
	if k.o.Prefix {
		k.checkOrder()
		k.checkPrefix()
	}
}

// checkOrder finds concurrent overlapping operations that came out in both orders.
func (k *checker) checkOrder() {
	for pair, at := range k.newer {
		back, both := k.newer[[2]int{pair[1], pair[0]}]
		if both && pair[0] < pair[1] {
			k.report.violate("%v and %v overlap and are interleaved: the first is the newer at offset %d, the second at %d",
				&k.ops[pair[0]], &k.ops[pair[1]], back.cell*CellSize, at.cell*CellSize)
		}
	}
}

// checkPrefix names a pair that breaks promise 1, if there is one.
func (k *checker) checkPrefix() {
	late, early := -1, -1 // the last submitted that is present; the first acknowledged that is absent
	for i := range k.ops {
		if k.present[i].seen && (late < 0 || k.ops[i].Begun > k.ops[late].Begun) {
			late = i
		}
		if k.absent[i].seen && k.ops[i].Done != 0 && (early < 0 || k.ops[i].Done < k.ops[early].Done) {
			early = i
		}
	}
	switch {
	case late >= 0 && early >= 0 && k.ops[early].before(&k.ops[late]):
		k.report.violate("not a prefix: %v is there (offset %d), but %v is not: offset %d holds %s", &k.ops[late], k.present[late].cell*CellSize,
			&k.ops[early], k.absent[early].cell*CellSize, k.name(k.absent[early].holds))
	case k.conflict != nil:
		k.report.violate("not a prefix: what volume %d holds at offset %d (%s) fits no moment that the other cells allow",
			k.conflict.volume, k.conflict.cell*CellSize, k.name(k.conflict.holds))
	}
}

func (k *checker) name(x int) string {
	if x == base {
		return "what was there before"
	}
	return k.ops[x].String()
}
