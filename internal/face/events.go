package face

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"drship/internal/state"
)

// Event is one line of events2.
type Event struct {
	Time   time.Time // set by whoever took the snapshots
	Kind   string    // exists, create, change, destroy, call, response
	Object string    // resource, connection, device, peer-device, path, helper; "-" ends the first dump
	Key    []Field   // which object
	Fields []Field   // what it is now, and all statistics; after a change what did not change is marked so

	counters bool // nothing but statistics changed
}

// Field is one key:value of a line.
type Field struct {
	Key, Value string
	Old        string // after a change: what it was, "" where it is the same or was not there
	Same       bool   // after a change: only with --full
	Statistic  bool   // only with --statistics
	Nine       bool   // only DRBD 9 has it
}

// EventOptions choose what Format prints.
type EventOptions struct {
	Timestamps, Statistics bool
	Diff                   bool  // what changed is printed as old->new
	Full                   bool  // what did not change is printed too; statistics as well
	Shape                  Shape // Shape9, or the older one's
}

// String is the line in 9's form, without timestamp and statistics.
func (e Event) String() string {
	s, _ := e.Format(EventOptions{})
	return s
}

// Format prints the line without a newline; ok is false where this form has nothing to say, so that the line is left out.
func (e Event) Format(o EventOptions) (line string, ok bool) {
	if o.Shape != Shape9 && e.Object == "path" {
		return "", false
	}
	var b strings.Builder
	if o.Timestamps {
		b.WriteString(e.Time.Format("2006-01-02T15:04:05.000000-07:00 "))
	}
	b.WriteString(e.Kind + " " + e.Object)
	for _, f := range e.Key {
		b.WriteString(" " + f.Key + ":" + f.Value)
	}
	statistics := o.Statistics || o.Full
	told := e.counters && statistics
	for _, f := range e.Fields {
		if f.Nine && o.Shape != Shape9 || f.Same && !o.Full || f.Statistic && !statistics {
			continue
		}
		told = told || !f.Statistic && !f.Same
		value := f.Value
		if o.Diff && f.Old != "" {
			value = f.Old + "->" + f.Value
		}
		b.WriteString(" " + f.Key + ":" + value)
	}
	return b.String(), told || e.Kind != "change"
}

// Dump is how events2 begins: everything that exists, and the end mark.
func Dump(rs []Resource) []Event {
	var d differ
	for i := range rs {
		d.resource(nil, &rs[i], "exists")
	}
	return append(d.events, Event{Kind: "exists", Object: "-"})
}

// Diff returns what happened between two snapshots: objects that came, changed and went. Counters alone are no
// event, as in DRBD: they go along when something changes.
func Diff(prev, next []Resource) []Event { return diff(prev, next, false) }

// DiffCounters is Diff with an event for each object of which nothing but counters changed as well: what events2 --poll asks for.
func DiffCounters(prev, next []Resource) []Event { return diff(prev, next, true) }

func diff(prev, next []Resource, counters bool) []Event {
	d := differ{counters: counters}
	for i := range prev {
		if !slices.ContainsFunc(next, func(r Resource) bool { return r.Name == prev[i].Name }) {
			d.resourceGone(&prev[i])
		}
	}
	for i := range next {
		at := slices.IndexFunc(prev, func(r Resource) bool { return r.Name == next[i].Name })
		if at < 0 {
			d.resource(nil, &next[i], "create")
			continue
		}
		last := &prev[at]
		for _, step := range between(last, &next[i]) {
			d.resource(last, step, "create")
			last = step
		}
		d.helper(&prev[at], &next[i])
		d.resource(last, &next[i], "create")
	}
	return d.events
}

type differ struct {
	events   []Event
	counters bool
}

func (d *differ) add(kind, object string, key, fields []Field) {
	d.events = append(d.events, Event{Kind: kind, Object: object, Key: key, Fields: fields})
}

// object is what there is to tell of one: its key, its state, its counters.
type object struct {
	key, state, statistics []Field
}

// state adds an object's line: all of it under kind where it is new, else under change what differs, marked. The states of both are in one order
// and of one length.
func (d *differ) state(kind, name string, old *object, now object) {
	if old == nil {
		d.add(kind, name, now.key, append(now.state, now.statistics...))
		return
	}
	changed := false
	fields := slices.Clone(now.state)
	for i := range fields {
		if fields[i].Value == old.state[i].Value {
			fields[i].Same = true
			continue
		}
		fields[i].Old, changed = old.state[i].Value, true
	}
	counted := d.counters && !changed && !sameValues(old.statistics, now.statistics)
	if changed || counted {
		d.events = append(d.events, Event{Kind: "change", Object: name, Key: now.key, Fields: append(fields, sparing(old.statistics, now.statistics)...), counters: counted})
	}
}

func sameValues(a, b []Field) bool {
	return slices.EqualFunc(a, b, func(x, y Field) bool { return x.Key == y.Key && x.Value == y.Value })
}

// spared are the statistics that DRBD prints only where they change.
var spared = []string{"write-ordering", "congested", "al-suspended", "blocked"}

// sparing marks the statistics that are told only where they change.
func sparing(old, now []Field) []Field {
	out := slices.Clone(now)
	for i, f := range out {
		at := slices.IndexFunc(old, func(o Field) bool { return o.Key == f.Key })
		same := at >= 0 && old[at].Value == f.Value
		if slices.Contains(spared, f.Key) && (same || f.Key == "blocked" && f.Value == "no") {
			out[i].Same = true
		}
	}
	return out
}

// resource adds the lines of a resource and all in it; kind is for what is new.
func (d *differ) resource(old, now *Resource, kind string) {
	var before *object
	if old != nil {
		before = &object{state: resourceFields(old)}
	}
	d.state(kind, "resource", before, object{key: resourceKey(now), state: resourceFields(now)})
	if old != nil {
		d.gone(old, now)
	}
	for i := range now.Peers {
		d.connection(old, now, &now.Peers[i], kind)
	}
	for i := range now.Volumes {
		d.device(old, now, &now.Volumes[i], kind)
	}
	for i := range now.Peers {
		d.peerDevices(old, now, &now.Peers[i], kind)
	}
	for i := range now.Peers {
		d.path(old, now, &now.Peers[i], kind)
	}
}

func resourceKey(r *Resource) []Field { return []Field{{Key: "name", Value: r.Name}} }

func resourceFields(r *Resource) []Field {
	may, score := promotion(r)
	return []Field{
		{Key: "role", Value: r.Role.String()},
		{Key: "suspended", Value: r.Suspended.String()},
		{Key: "force-io-failures", Value: "no", Nine: true},
		{Key: "write-ordering", Value: r.WriteOrdering.String(), Statistic: true},
		{Key: "may_promote", Value: yesNo(may), Nine: true},
		{Key: "promotion_score", Value: fmt.Sprint(score), Nine: true},
	}
}

// promotion tells whether a promotion would succeed, and how good a choice this node is: 10000 for disks of its own,
// 100 for each that is UpToDate, 1 for each UpToDate replica of the volume that has fewest.
func promotion(r *Resource) (may bool, score int) {
	replicas, good, own, all := -1, 0, 1, true
	for i := range r.Volumes {
		v := &r.Volumes[i]
		if !v.Quorum {
			return false, 0
		}
		n := 0
		switch v.Disk {
		case state.UpToDate:
			n, good = 1, good+1
		case state.Consistent, state.Inconsistent:
		default:
			own = 0
		}
		all = all && v.Disk == state.UpToDate
		for j := range r.Peers {
			if pv := r.Peers[j].Volume(v.Number); pv != nil && connected(&r.Peers[j]) && pv.Disk == state.UpToDate {
				n++
			}
		}
		if replicas < 0 || n < replicas {
			replicas = n
		}
	}
	if replicas <= 0 {
		return false, 0
	}
	primary := r.Role == state.Primary || slices.ContainsFunc(r.Peers, func(p Peer) bool { return p.Role == state.Primary })
	return all && !primary, own*10000 + min(good, 99)*100 + min(replicas, 99)
}

func peerKey(r *Resource, p *Peer) []Field {
	key := append(resourceKey(r), Field{Key: "peer-node-id", Value: fmt.Sprint(p.NodeID)})
	if p.Name != "" {
		key = append(key, Field{Key: "conn-name", Value: p.Name})
	}
	return key
}

func findPeer(r *Resource, p *Peer) *Peer {
	if r == nil {
		return nil
	}
	for i := range r.Peers {
		if r.Peers[i].Name == p.Name && r.Peers[i].NodeID == p.NodeID {
			return &r.Peers[i]
		}
	}
	return nil
}

func findVolume(r *Resource, number uint16) *Volume {
	if r == nil {
		return nil
	}
	for i := range r.Volumes {
		if r.Volumes[i].Number == number {
			return &r.Volumes[i]
		}
	}
	return nil
}

func (d *differ) connection(oldR, r *Resource, p *Peer, kind string) {
	var before *object
	if old := findPeer(oldR, p); old != nil {
		before = &object{state: connectionFields(old), statistics: connectionStatistics(old)}
	}
	d.state(kind, "connection", before, object{key: peerKey(r, p), state: connectionFields(p), statistics: connectionStatistics(p)})
}

func connectionStatistics(p *Peer) []Field {
	return []Field{
		{Key: "congested", Value: yesNo(p.Congested), Statistic: true},
		{Key: "ap-in-flight", Value: fmt.Sprint(p.APInFlight / kib), Statistic: true, Nine: true},
		{Key: "rs-in-flight", Value: fmt.Sprint(p.RSInFlight / kib), Statistic: true, Nine: true},
	}
}

func connectionFields(p *Peer) []Field {
	return []Field{{Key: "connection", Value: connection9(p.Conn)}, {Key: "role", Value: p.Role.String()}}
}

func deviceKey(r *Resource, v *Volume) []Field {
	return append(resourceKey(r), Field{Key: "volume", Value: fmt.Sprint(v.Number)}, Field{Key: "minor", Value: fmt.Sprint(v.Minor)})
}

func deviceFields(v *Volume) []Field {
	return []Field{
		{Key: "backing_dev", Value: backing(v), Nine: true},
		{Key: "disk", Value: v.Disk.String()},
		{Key: "client", Value: "no", Nine: true},
		{Key: "open", Value: yesNo(v.Open), Nine: true},
		{Key: "quorum", Value: yesNo(v.Quorum), Nine: true},
	}
}

func (d *differ) device(oldR, r *Resource, v *Volume, kind string) {
	var before *object
	if old := findVolume(oldR, v.Number); old != nil {
		before = &object{state: deviceFields(old), statistics: deviceStatistics(old)}
	}
	d.state(kind, "device", before, object{key: deviceKey(r, v), state: deviceFields(v), statistics: deviceStatistics(v)})
}

func deviceStatistics(v *Volume) []Field {
	return marked(append(volumeStatistics(v), Field{Key: "blocked", Value: blocked(v)}))
}

// marked sets Statistic in all fields.
func marked(fields []Field) []Field {
	for i := range fields {
		fields[i].Statistic = true
	}
	return fields
}

func (d *differ) peerDevices(oldR, r *Resource, p *Peer, kind string) {
	old := findPeer(oldR, p)
	for i := range p.Volumes {
		v := &p.Volumes[i]
		var before *object
		if old != nil {
			if ov := old.Volume(v.Number); ov != nil {
				before = &object{state: peerDeviceFields(old, ov), statistics: marked(peerVolumeStatistics(ov))}
			}
		}
		statistics := marked(peerVolumeStatistics(v))
		if s := done(r, v, p.VolumeConn(v), Shape9); s != "" {
			statistics = append([]Field{{Key: "done", Value: s, Nine: true}}, statistics...)
		}
		d.state(kind, "peer-device", before, object{key: peerDeviceKey(r, p, v), state: peerDeviceFields(p, v), statistics: statistics})
	}
}

func peerDeviceKey(r *Resource, p *Peer, v *PeerVolume) []Field {
	return append(peerKey(r, p), Field{Key: "volume", Value: fmt.Sprint(v.Number)})
}

func peerDeviceFields(p *Peer, v *PeerVolume) []Field {
	return []Field{
		{Key: "replication", Value: replication9(p.VolumeConn(v))},
		{Key: "peer-disk", Value: v.Disk.String()},
		{Key: "peer-client", Value: "no", Nine: true},
		{Key: "resync-suspended", Value: v.Flags.String()},
	}
}

func (d *differ) path(oldR, r *Resource, p *Peer, kind string) {
	if p.Local == "" || p.Remote == "" {
		return
	}
	var before *object
	if old := findPeer(oldR, p); old != nil && old.Local == p.Local && old.Remote == p.Remote {
		before = &object{state: pathFields(old)}
	}
	d.state(kind, "path", before, object{key: pathKey(r, p), state: pathFields(p)})
}

func pathKey(r *Resource, p *Peer) []Field {
	return append(peerKey(r, p), Field{Key: "local", Value: address(p.Local)}, Field{Key: "peer", Value: address(p.Remote)})
}

func pathFields(p *Peer) []Field { return []Field{{Key: "established", Value: yesNo(connected(p))}} }

// address prints host:port with its family, as DRBD does.
func address(hostPort string) string {
	if strings.HasPrefix(hostPort, "[") {
		return "ipv6:" + hostPort
	}
	return "ipv4:" + hostPort
}

// gone adds what a resource no longer has.
func (d *differ) gone(old, now *Resource) {
	for i := range old.Peers {
		p := &old.Peers[i]
		left := findPeer(now, p)
		if left != nil && p.Local != "" && p.Remote != "" && (left.Local != p.Local || left.Remote != p.Remote) {
			d.add("destroy", "path", pathKey(old, p), nil)
		}
		for j := range p.Volumes {
			if left == nil || left.Volume(p.Volumes[j].Number) == nil {
				d.add("destroy", "peer-device", peerDeviceKey(old, p, &p.Volumes[j]), nil)
			}
		}
		if left == nil {
			d.connectionGone(old, p)
		}
	}
	for i := range old.Volumes {
		if findVolume(now, old.Volumes[i].Number) == nil {
			d.add("destroy", "device", deviceKey(old, &old.Volumes[i]), nil)
		}
	}
}

func (d *differ) connectionGone(r *Resource, p *Peer) {
	if p.Local != "" && p.Remote != "" {
		d.add("destroy", "path", pathKey(r, p), nil)
	}
	d.add("destroy", "connection", peerKey(r, p), nil)
}

func (d *differ) resourceGone(r *Resource) {
	d.gone(r, &Resource{Name: r.Name})
	d.add("destroy", "resource", resourceKey(r), nil)
}

// helper adds the run of a handler, and its end.
func (d *differ) helper(old, now *Resource) {
	h := now.Helper
	begun := h.Seq != old.Helper.Seq
	if h.Name == "" || !begun && h.Done == old.Helper.Done {
		return
	}
	key := resourceKey(now)
	for i := range now.Peers {
		if now.Peers[i].NodeID == h.Peer {
			key = peerKey(now, &now.Peers[i])
		}
	}
	if v := findVolume(now, uint16(max(h.Volume, 0))); v != nil && h.Volume >= 0 {
		key = append(key, Field{Key: "volume", Value: fmt.Sprint(v.Number)}, Field{Key: "minor", Value: fmt.Sprint(v.Minor)})
	}
	key = append(key, Field{Key: "helper", Value: h.Name})
	if begun {
		d.add("call", "helper", key, nil)
	}
	if h.Done {
		d.add("response", "helper", append(slices.Clone(key), Field{Key: "status", Value: fmt.Sprint(h.Status)}), nil)
	}
}
