package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"strconv"
	"strings"
	"time"

	"drship/cmd/drship/control"
	"drship/internal/disk"
	"drship/internal/face"
	"drship/internal/state"
	"drship/journal"
)

// refused is a failure that is neither a DRBD code nor a fault: what to say, what to do, how to exit.
type refused struct {
	exit       int
	text, hint string
}

func (e *refused) Error() string { return e.text }

// verb carries out one request on one resource. The lines are the answer of a verb that asks for something.
type verb func(ctx context.Context, r *Resource, q *control.Request) ([]string, error)

// verbs is everything that the control socket may ask a resource for.
var verbs = together(runVerbs, lookVerbs, dataVerbs, metadataVerbs, optionVerbs, stepVerbs)

func together(tables ...map[string]verb) map[string]verb {
	all := map[string]verb{}
	for _, t := range tables {
		maps.Copy(all, t)
	}
	return all
}

// runVerbs bring a resource up and down, give it its role and connect it.
var runVerbs = map[string]verb{
	"up":   func(ctx context.Context, r *Resource, _ *control.Request) ([]string, error) { return nil, r.Up(ctx) },
	"down": func(ctx context.Context, r *Resource, _ *control.Request) ([]string, error) { return nil, r.Down(ctx) },
	"attach": func(ctx context.Context, r *Resource, q *control.Request) ([]string, error) {
		if err := r.Attach(ctx, q.Volume); err != nil {
			return nil, err
		}
		return verbDiskOptions(ctx, r, q) // those that were given with it
	},
	"detach": func(ctx context.Context, r *Resource, q *control.Request) ([]string, error) {
		return nil, r.Detach(ctx, q.Volume)
	},
	"connect":    verbConnect,
	"disconnect": verbDisconnect,
	"primary": func(ctx context.Context, r *Resource, q *control.Request) ([]string, error) {
		return nil, r.Promote(ctx, q.Yes("force") || q.Yes("overwrite-data-of-peer"))
	},
	"secondary": func(ctx context.Context, r *Resource, q *control.Request) ([]string, error) {
		return nil, r.Demote(ctx, q.Yes("force"))
	},
	"adjust":       verbAdjust,
	"wait-connect": verbWaitConnect,
	"wait-sync":    verbWaitSync,
	"suspend-io": func(ctx context.Context, r *Resource, _ *control.Request) ([]string, error) {
		return nil, r.suspendIO(ctx)
	},
	"resume-io":   func(_ context.Context, r *Resource, _ *control.Request) ([]string, error) { return nil, r.resumeIO() },
	"run-handler": verbRunHandler,
}

// lookVerbs tell how things are.
var lookVerbs = map[string]verb{
	"role":           lines(face.Role),
	"state":          lines(face.Role),
	"cstate":         lines(face.CState),
	"dstate":         verbDState,
	"peer-role":      verbPeerRole,
	"show":           verbShow,
	"explain":        verbExplain,
	"link-status":    verbLinkStatus,
	"link-probe":     verbLinkProbe,
	"journal-export": verbJournalExport,
}

// dataVerbs are about who has which data, and bring it over.
var dataVerbs = map[string]verb{
	"invalidate": func(ctx context.Context, r *Resource, _ *control.Request) ([]string, error) {
		if !r.isUp() {
			return nil, r.markOffline(ctx, state.Inconsistent)
		}
		return nil, r.invalidate(ctx, true)
	},
	"invalidate-remote": func(ctx context.Context, r *Resource, q *control.Request) ([]string, error) {
		return nil, r.invalidateRemote(ctx, peerNames(q))
	},
	"outdate": func(ctx context.Context, r *Resource, _ *control.Request) ([]string, error) {
		if !r.isUp() {
			return nil, r.markOffline(ctx, state.Outdated)
		}
		return nil, r.Outdate(ctx)
	},
	"verify":           verbVerify,
	"resize":           verbResize,
	"new-current-uuid": verbNewUUID,
	"pause-sync": func(_ context.Context, r *Resource, q *control.Request) ([]string, error) {
		return nil, r.pauseSync(true, q.Yes("keep"))
	},
	"resume-sync": func(_ context.Context, r *Resource, _ *control.Request) ([]string, error) {
		return nil, r.pauseSync(false, false)
	},
	"pause": func(_ context.Context, r *Resource, q *control.Request) ([]string, error) {
		return nil, r.hold(true, q.Yes("keep"))
	},
	"resume": func(_ context.Context, r *Resource, _ *control.Request) ([]string, error) {
		return nil, r.hold(false, false)
	},
}

// metadataVerbs read and write what is kept of a resource.
var metadataVerbs = map[string]verb{
	"create-md": func(ctx context.Context, r *Resource, q *control.Request) ([]string, error) {
		size, err := number(q, "size")
		if err != nil {
			return nil, err
		}
		return r.createMD(ctx, createOptions{force: q.Yes("force"), adopt: q.Yes("adopt"), clean: q.Yes("assume-clean"), size: size, volume: q.Volume})
	},
	"wipe-md": verbWipeMD,
	"apply-al": func(ctx context.Context, r *Resource, _ *control.Request) ([]string, error) {
		return r.applyAL(ctx)
	},
	"dump-md":         verbDumpMD,
	"get-gi":          verbGetGI,
	"show-gi":         verbShowGI,
	"set-gi":          verbSetGI,
	"forget-peer":     verbForgetPeer,
	"rename-resource": verbRename,
}

// optionVerbs change options until the next adjust.
var optionVerbs = map[string]verb{
	"disk-options":        verbDiskOptions,
	"peer-device-options": verbPeerDeviceOptions,
	"net-options":         verbNetOptions,
	"resource-options":    verbResourceOptions,
	"syncer":              verbSyncer,
}

// stepVerbs are the single steps of DRBD's up and down: see steps.go.
var stepVerbs = map[string]verb{
	"new-resource": verbNewResource,
	"new-minor":    verbNewMinor,
	"del-minor":    verbDelMinor,
	"del-resource": verbDelResource,
	"new-peer":     verbNewPeer,
	"del-peer":     verbDisconnect,
	"new-path":     verbNothing,
	"del-path":     verbDelPath,
	"check-resize": verbNothing,
}

// Do implements control.API.
func (n *Node) Do(ctx context.Context, q control.Request) (control.Reply, error) {
	if err := n.refresh(ctx, &q); err != nil {
		return control.Reply{}, err
	}
	rs, err := n.named([]string{q.Resource})
	if err != nil {
		return control.Reply{}, err
	}
	v, ok := verbs[q.Verb]
	if !ok {
		return control.Reply{}, &control.Error{What: q.Verb, Text: "this node does not support the verb", Exit: control.ExitRefused}
	}
	var reply control.Reply
	for _, r := range rs {
		answer, err := v(ctx, r, &q)
		reply.Results = append(reply.Results, result(r.name, answer, err))
	}
	return reply, nil
}

// result turns what became of a verb into what travels.
func result(resource string, lines []string, err error) control.Result {
	res := control.Result{Resource: resource, Lines: lines}
	if err == nil {
		return res
	}
	res.Text, res.Exit = err.Error(), control.ExitRefused
	if f, ok := errors.AsType[*state.Refusal](err); ok {
		res.Code, res.Text, res.Hint, res.Exit = int(f.Code), f.Text, f.Detail, f.ExitCode()
		return res
	}
	if e, ok := errors.AsType[*control.Error](err); ok {
		res.Code, res.Text, res.Hint, res.Exit = e.Code, e.Text, e.Hint, e.Exit
		return res
	}
	if f, ok := errors.AsType[*refused](err); ok {
		res.Text, res.Hint, res.Exit = f.text, f.hint, f.exit
		return res
	}
	switch {
	case errors.Is(err, errNoMetadata):
		res.Code, res.Text, res.Hint = int(state.ErrNoMetaData), state.CodeText(state.ErrNoMetaData), "write it once: drship create-md "+resource
	case errors.Is(err, disk.ErrInUse):
		res.Code = int(state.ErrDiskInUse)
	case errors.Is(err, journal.ErrLocked):
		res.Hint = "another daemon uses the same state directory"
	case errors.Is(err, context.DeadlineExceeded):
		res.Exit = control.ExitTimeout
	}
	return res
}

// named resolves resource names; none, or "all", means all.
func (n *Node) named(names []string) ([]*Resource, error) {
	all := n.all()
	var rs []*Resource
	for _, name := range names {
		if name == control.All || name == "" {
			return all, nil
		}
		r := find(all, name)
		if r == nil {
			return nil, &control.Error{What: name, Text: "not defined in your config (for this host).", Hint: "see: drship dump", Exit: control.ExitUsage}
		}
		rs = append(rs, r)
	}
	if len(names) == 0 {
		return all, nil
	}
	return rs, nil
}

func number(q *control.Request, option string) (int64, error) {
	text, ok := q.Options[option]
	if !ok {
		return 0, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return 0, &refused{exit: control.ExitUsage, text: fmt.Sprintf("--%s %q is not a number", option, text)}
	}
	return n, nil
}

func peerNames(q *control.Request) []string {
	if q.Peer == "" {
		return nil
	}
	return []string{q.Peer}
}

// lines is a verb that prints a snapshot in one of DRBD's shapes.
func lines(render func(io.Writer, face.Resource) error) verb {
	return func(_ context.Context, r *Resource, q *control.Request) ([]string, error) {
		if !r.isUp() {
			return nil, &control.Error{Code: int(state.ErrMinorInvalid), Text: state.CodeText(state.ErrMinorInvalid), Hint: "bring it up: drship up " + r.name}
		}
		var b strings.Builder
		if err := render(&b, onlyVolume(r.snapshot(), q.Volume)); err != nil {
			return nil, err
		}
		return strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n"), nil
	}
}

func onlyVolume(s face.Resource, volume int) face.Resource {
	if volume == control.AnyVolume {
		return s
	}
	var keep []face.Volume
	for _, v := range s.Volumes {
		if int(v.Number) == volume {
			keep = append(keep, v)
		}
	}
	s.Volumes = keep
	return s
}

func verbConnect(ctx context.Context, r *Resource, q *control.Request) ([]string, error) {
	o := connectOptions{discard: q.Yes("discard-my-data"), tentative: q.Yes("tentative")}
	if err := r.connectVerb(ctx, q, o); err != nil || !o.tentative {
		return nil, err
	}
	return r.awaitTrial(ctx, peerNames(q))
}

func (r *Resource) connectVerb(ctx context.Context, q *control.Request, o connectOptions) error {
	names, once := peerNames(q), q.Yes("once")
	release, err := r.acquire(ctx)
	if err != nil {
		return err
	}
	defer release()
	r.mu.Lock()
	local, peers := r.viewsLocked()
	r.mu.Unlock()
	down := 0
	for _, p := range peers {
		f := state.MayConnect(local, p, o.discard)
		switch {
		case !named(names, p.Name):
		case f == nil:
			down++
		case f.Code != state.ErrNetConfigured:
			return f
		case o.tentative:
			return state.Refused(state.ErrNetConfigured, "%s is connected, or being waited for, already; disconnect first to try", p.Name)
		}
	}
	if down == 0 && once { // as DRBD has it
		return state.Refused(state.ErrLocalAddr, "")
	}
	if err := r.refreshNet(); err != nil {
		return err
	}
	if len(given(q, "net")) > 0 {
		if err := r.changeNet(ctx, q.Peer, nil, func() error { return r.setNetLocked(q) }); err != nil {
			return err
		}
	}
	return r.connect(ctx, names, o)
}

func verbDisconnect(ctx context.Context, r *Resource, q *control.Request) ([]string, error) {
	release, err := r.acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	if q.Yes("once") && !r.anyWanted(q.Peer) { // as DRBD has it
		return nil, state.Refused(state.ErrInvalidRequest, "unknown connection")
	}
	if f := r.mayLeave(peerNames(q), q.Yes("force")); f != nil {
		return nil, f
	}
	r.disconnect(peerNames(q))
	return nil, nil
}

// waitTime bounds the wait-* verbs; 0 waits for as long as the caller does.
func waitTime(ctx context.Context, q *control.Request) (context.Context, context.CancelFunc, error) {
	seconds, err := number(q, "timeout")
	if err != nil || seconds == 0 {
		return ctx, func() {}, err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(seconds)*time.Second)
	return ctx, cancel, nil
}

func verbWaitConnect(ctx context.Context, r *Resource, q *control.Request) ([]string, error) {
	ctx, cancel, err := waitTime(ctx, q)
	if err != nil {
		return nil, err
	}
	defer cancel()
	return nil, r.waitPeers(ctx, peerNames(q), func(p *peer) bool { return p.inSight() })
}

func verbWaitSync(ctx context.Context, r *Resource, q *control.Request) ([]string, error) {
	ctx, cancel, err := waitTime(ctx, q)
	if err != nil {
		return nil, err
	}
	defer cancel()
	return nil, r.waitPeers(ctx, peerNames(q), func(p *peer) bool { return p.inSight() && r.inSyncLocked(p) })
}
