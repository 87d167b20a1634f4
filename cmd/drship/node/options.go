package node

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"drship/cmd/drship/control"
	"drship/internal/config"
	"drship/internal/setup"
	"drship/internal/state"
)

// setDefaults is the flag of the *-options verbs with which every option that is not given goes to its default.
const setDefaults = "set-defaults"

// given lists the options of a request that belong to a section, sorted by name.
func given(q *control.Request, section string) []config.Setting {
	var out []config.Setting
	for name, value := range q.Options {
		if _, ok := config.FindOption(section, name); ok {
			out = append(out, config.Setting{Name: name, Value: value})
		}
	}
	slices.SortFunc(out, func(a, b config.Setting) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// invalid is a value that an option does not take.
func invalid(err error) error {
	return &refused{exit: control.ExitRefused, text: err.Error()}
}

// verbDiskOptions changes options of disks and resyncs until the next adjust. resync-rate 0 goes back to what is configured or measured.
func verbDiskOptions(ctx context.Context, r *Resource, q *control.Request) ([]string, error) {
	rate, err := number(q, "resync-rate")
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.wakeResyncs()
	before := r.cfg.Disk.ALExtents
	if err := r.setDiskLocked(q); err != nil {
		r.mu.Unlock()
		return nil, invalid(err)
	}
	if _, ok := q.Options["resync-rate"]; ok || q.Yes(setDefaults) {
		r.tempRate = rate
	}
	again := r.att != nil && r.cfg.Disk.ALExtents != before
	r.mu.Unlock()
	if !again {
		return nil, nil
	}
	release, err := r.acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer r.backInSight(ctx, r.inSight())
	defer release()
	return nil, r.reopenWith(ctx, func() {}) // as it is set now, which is not what the file says
}

// setDiskLocked changes the disk options of the volumes that the request means, and of the resource where it means all of them.
func (r *Resource) setDiskLocked(q *control.Request) error {
	change := func(d config.Disk) (config.Disk, error) {
		if q.Yes(setDefaults) {
			d = config.DiskDefaults()
		}
		for _, s := range given(q, "disk") {
			if s.Name == "resync-rate" {
				continue
			}
			var err error
			if d, err = d.With(s.Name, s.Value); err != nil {
				return d, err
			}
		}
		return d, nil
	}
	cfg, host := *r.cfg, *r.host
	host.Volumes = slices.Clone(host.Volumes)
	for i, v := range host.Volumes {
		if q.Volume != control.AnyVolume && q.Volume != int(v.Number) {
			continue
		}
		changed := *v
		var err error
		if changed.DiskOptions, err = change(v.DiskOptions); err != nil {
			return err
		}
		host.Volumes[i] = &changed
	}
	if q.Volume == control.AnyVolume || len(host.Volumes) == 1 {
		var err error
		if cfg.Disk, err = change(cfg.Disk); err != nil {
			return err
		}
	}
	r.cfg, r.host, r.whole = &cfg, &host, nil
	return nil
}

// verbResourceOptions changes options of the resource until the next adjust.
func verbResourceOptions(_ context.Context, r *Resource, q *control.Request) ([]string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	cfg := *r.cfg
	if q.Yes(setDefaults) {
		cfg.Options = config.OptionsDefaults()
	}
	for _, s := range given(q, "options") {
		var err error
		if cfg.Options, err = cfg.Options.With(s.Name, s.Value); err != nil {
			return nil, invalid(err)
		}
	}
	r.cfg, r.whole = &cfg, nil
	r.node.changed()
	return nil, nil
}

// verbNetOptions changes options of connections until the next adjust, or connect.
func verbNetOptions(ctx context.Context, r *Resource, q *control.Request) ([]string, error) {
	release, err := r.acquire(ctx)
	if err != nil {
		return nil, err
	}
	before := r.inSight()
	defer r.backInSight(ctx, before)
	defer release()
	var names []string
	for _, s := range given(q, "net") {
		names = append(names, s.Name)
	}
	if q.Yes(setDefaults) {
		names = nil // any may change
	}
	return nil, r.changeNet(ctx, q.Peer, names, func() error { return r.setNetLocked(q) })
}

// setNetLocked changes the net options of the connections that the request means, and of the resource where it means all of them.
func (r *Resource) setNetLocked(q *control.Request) error {
	change := func(n config.Net) (config.Net, error) {
		if q.Yes(setDefaults) {
			n = config.NetDefaults()
		}
		for _, s := range given(q, "net") {
			var err error
			if n, err = n.With(s.Name, s.Value); err != nil {
				return n, invalid(err)
			}
		}
		if n.Fencing == "resource-and-stonith" && n.Protocol == 'A' {
			return n, state.Refused(state.ErrStonithProtocolA, "")
		}
		if n.CramHMACAlg != "" && n.SharedSecret == "" {
			return n, &refused{exit: control.ExitRefused, text: "cram-hmac-alg needs a shared-secret"}
		}
		return n, nil
	}
	cfg := *r.cfg
	changed := map[*peer]*config.Peer{}
	for _, p := range r.peers {
		if q.Peer != "" && q.Peer != p.name {
			continue
		}
		pc := *p.cfg
		var err error
		if pc.Net, err = change(pc.Net); err != nil {
			return err
		}
		changed[p] = &pc
	}
	if len(changed) == len(r.peers) {
		var err error
		if cfg.Net, err = change(cfg.Net); err != nil {
			return err
		}
	}
	for p, pc := range changed {
		p.cfg = pc
	}
	r.cfg, r.whole = &cfg, nil
	return nil
}

// liveNet are the net and wan options that are looked at whenever they matter: a change of them needs no new connection.
var liveNet = strings.Fields(`after-sb-0pri after-sb-1pri after-sb-2pri always-asbp rr-conflict fencing verify-alg verify-schedule verify-repair verify-rate
	ko-count allow-remote-read link-rate rate-schedule lag-limit peer-silent`)

// changeNet lets apply change options of the connections with one peer, or with all. Where the connection was made with what changes, it is
// made again: the journal holds what is written meanwhile. Called with the token held.
func (r *Resource) changeNet(ctx context.Context, peer string, names []string, apply func() error) error {
	r.mu.Lock()
	if f := r.busyLocked(names); f != nil {
		r.mu.Unlock()
		return f
	}
	before, key := r.connectionsLocked(), r.endpointKeyLocked()
	err := apply()
	after, now := r.connectionsLocked(), r.endpointKeyLocked()
	n := r.net
	var again []string
	for _, p := range r.peers {
		if p.wanted && (peer == "" || p.name == peer || now != key) && (now != key || needsLink(before[p.name], after[p.name])) {
			again = append(again, p.name)
		}
	}
	r.mu.Unlock()
	r.node.changed()
	if err != nil || n == nil {
		return err
	}
	if len(again) > 0 {
		r.disconnect(again)
	}
	if now != key {
		r.closeNetwork()
	}
	if len(again) == 0 {
		return nil
	}
	return r.connect(ctx, again, connectOptions{})
}

// backWithin bounds how long a verb waits for connections that it had to make again.
const backWithin = 5 * time.Second

func (r *Resource) inSight() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var names []string
	for _, p := range r.peers {
		if p.inSight() {
			names = append(names, p.name)
		}
	}
	return names
}

// backInSight waits until peers that were in sight before are so again, so that a script finds what it left. One that does not come back is for
// others to tell of. Called without the token, which handshakes need.
func (r *Resource) backInSight(ctx context.Context, names []string) {
	if len(names) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, backWithin)
	defer cancel()
	if err := r.waitPeers(ctx, names, func(p *peer) bool { return p.inSight() || !p.wanted }); err != nil {
		r.log.Warn("a connection that was made again is not back yet", "peers", names, "err", err)
	}
}

// busyLocked refuses to change a digest that is in use.
func (r *Resource) busyLocked(names []string) *state.Refusal {
	for _, p := range r.peers {
		if !p.inSight() {
			continue
		}
		switch repl := r.replLocked(p); {
		case slices.Contains(names, "verify-alg") && (repl == state.VerifyS || repl == state.VerifyT):
			return state.Refused(state.ErrVerifyRunning, "")
		case slices.Contains(names, "csums-alg") && repl > state.Connected && repl != state.VerifyS && repl != state.VerifyT:
			return state.Refused(state.ErrCsumsRunning, "")
		}
	}
	return nil
}

func (r *Resource) connectionsLocked() map[string]setup.Peer {
	out := map[string]setup.Peer{}
	for _, p := range r.peers {
		out[p.name] = setup.PeerOf(p.cfg)
	}
	return out
}

// needsLink reports whether a connection has to be made again.
func needsLink(before, after setup.Peer) bool {
	for _, name := range append(setup.Differing("net", before.Net, after.Net), setup.Differing("wan", before.WAN, after.WAN)...) {
		section := "net"
		o, ok := config.FindOption(section, name)
		if !ok {
			o, _ = config.FindOption("wan", name)
		}
		if o.Class == config.Honoured && !slices.Contains(liveNet, name) {
			return true
		}
	}
	return before.Local != after.Local || before.Remote != after.Remote
}

// endpointKeyLocked tells endpoints apart: what the resource listens and connects with, whoever the peer is.
func (r *Resource) endpointKeyLocked() string {
	key := linkKey(r.cfg.Net) + fmt.Sprint(" ", r.host.Address)
	for _, p := range r.peers {
		key += fmt.Sprint(" ", p.name, p.cfg.Local, p.cfg.Remote, p.cfg.Host.Fingerprint)
		if len(r.peers) > 1 {
			key += " " + linkKey(p.cfg.Net)
		}
	}
	return key
}

// refreshNet takes over what the file says of connections before one is made. Where the endpoint itself changes and nobody uses it, it is
// opened anew; connections that are in use keep theirs until adjust. Called with the token held.
func (r *Resource) refreshNet() error {
	r.mu.Lock()
	for _, p := range r.peers {
		if p.wanted || p.session != nil {
			r.mu.Unlock()
			return nil
		}
	}
	key := r.endpointKeyLocked()
	r.takeLocked(partNet)
	changed := r.net != nil && key != r.endpointKeyLocked()
	r.mu.Unlock()
	if changed {
		r.closeNetwork()
	}
	return nil
}

// wakeResyncs lets what resyncs look at its rate again.
func (r *Resource) wakeResyncs() {
	for _, s := range r.sessions() {
		if src := s.currentSource(); src != nil {
			src.stream.Wake()
		}
	}
	r.node.changed()
}

// verbSyncer is 8.3's: options of the file that a resource can change while it runs, without attaching or connecting anything.
func verbSyncer(ctx context.Context, r *Resource, _ *control.Request) ([]string, error) {
	release, err := r.acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer r.backInSight(ctx, r.inSight())
	defer release()
	running := r.running()
	if running == nil {
		return nil, state.Refused(state.ErrMinorInvalid, "bring it up: drship up %s", r.name)
	}
	steps := setup.Plan(running, r.asked())
	for i := range steps {
		switch steps[i].Kind {
		case setup.DiskOptions, setup.NetOptions, setup.ResourceOptions:
			if err := r.carryOut(ctx, &steps[i]); err != nil {
				return nil, err
			}
		}
	}
	return nil, nil
}

func sameFile(a, b string) bool {
	one, errA := os.Stat(a)
	two, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(one, two)
}
