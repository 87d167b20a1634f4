package config

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const vendorRoot = "../../vendor-configs/drbd"

// roots lists the files that are loaded by themselves; those in a folder drbd.d are included by one of them.
func roots(t testing.TB) (roots, all []string) {
	t.Helper()
	err := filepath.WalkDir(vendorRoot, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		all = append(all, path)
		if filepath.Base(filepath.Dir(path)) != "drbd.d" {
			roots = append(roots, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return roots, all
}

func TestVendorConfigsLoad(t *testing.T) {
	files, all := roots(t)
	if len(files) < 10 {
		t.Fatalf("only %d configurations", len(files))
	}
	read := map[string]bool{}
	for _, f := range files {
		t.Run(strings.TrimPrefix(f, vendorRoot+"/"), func(t *testing.T) {
			c, err := Load(f)
			if err != nil {
				t.Fatal(err)
			}
			if len(c.Resources) == 0 {
				t.Error("no resource")
			}
			for _, name := range c.Files {
				read[name] = true
			}
			roundTrip(t, c)
		})
	}
	for _, f := range all {
		if !read[f] {
			t.Errorf("%s is read by no configuration", f)
		}
	}
}

// What the sources say must arrive, in the units of today.
func TestVendorConfigsMean(t *testing.T) {
	load := func(name, resource string) *Resource {
		t.Helper()
		c, err := Load(filepath.Join(vendorRoot, name))
		if err != nil {
			t.Fatal(err)
		}
		return c.Resource(resource)
	}
	for _, c := range []struct {
		file, resource, node, disk, meta, address string
		rate                                      int64
		extents                                   int
	}{
		{"jowin-8.3/drbd.conf", "mydrbd", "node1.magedu.com", "/dev/sdb1", "internal", "192.168.41.129:7789", 1000 << 20, 1237},
		{"jowin-8.4/drbd.conf", "data", "test-backup", "/dev/sdb1", "/dev/sdb2", "172.16.1.114:7788", 50 << 20, 1237},
		{"mysql-lvs-8.3/drbd.conf", "web", "drbd2", "/dev/sda", "internal", "192.168.253.140:7789", 1000 << 20, 1237},
		{"nolinux-8.4/drbd.conf", "drbd", "M1.redhat.sx", "/dev/mapper/VolGroup-lv_drbd", "internal", "172.16.100.210:7789", 1024 << 20, 517},
		{"harumaki-0.7/drbd.conf", "r0", "test01", "/dev/sdb2", "/dev/sdb1", "192.168.0.12:7788", 10 << 20, 257},
		{"notes-zh-8.4/sync-rate.conf", "r0", "bob", "/dev/sdb1", "internal", "192.0.2.2:7788", 40 << 20, 1237},
	} {
		r := load(c.file, c.resource)
		h, err := r.Local(c.node)
		if err != nil {
			t.Errorf("%s: %v", c.file, err)
			continue
		}
		v := h.Volumes[0]
		if r.Net.Protocol != 'C' || v.Device != "/dev/drbd0" || v.Minor != 0 || v.Disk != c.disk || v.MetaDisk != c.meta ||
			h.Address.HostPort() != c.address || v.DiskOptions.ResyncRate != c.rate || v.DiskOptions.ALExtents != c.extents || len(r.Peers(c.node)) != 1 {
			t.Errorf("%s: %+v %+v", c.file, h, v)
		}
	}
	old := load("harumaki-0.7/drbd.conf", "r0")
	if got := old.Handlers["pri-on-incon-degr"]; got != "echo '!DRBD! pri on incon-degr' | wall ; sleep 60 ; halt -f" {
		t.Errorf("incon-degr-cmd arrives as %q", got)
	}
	if old.Disk.OnIOError != "call-local-io-error" || old.Hosts[0].Volumes[0].MetaIndex != 0 {
		t.Errorf("0.7's panic or meta-disk slot: %+v", old.Disk)
	}
	nfs := load("nolinux-8.4/drbd.conf", "drbd").Net
	if nfs.CramHMACAlg != "sha1" || nfs.SharedSecret != "allendrbd" || nfs.SndbufSize != 512<<10 || nfs.MaxBuffers != 8000 || nfs.AfterSB0 != "disconnect" {
		t.Errorf("nolinux: %+v", nfs)
	}
	web := load("mysql-lvs-8.3/drbd.conf", "web")
	if !strings.HasSuffix(web.Handlers["local-io-error"], "; echo o > /proc/sysrq-trigger ; halt -f") {
		t.Errorf("a handler of several commands arrives as %q", web.Handlers["local-io-error"])
	}
	sb := load("notes-zh-8.4/split-brain.conf", "r0")
	if sb.Net.AfterSB0 != "discard-zero-changes" || sb.Net.AfterSB1 != "discard-secondary" || sb.Net.AfterSB2 != "disconnect" {
		t.Errorf("split brain: %+v", sb.Net)
	}
}

func TestVendorReadmeNamesEverySource(t *testing.T) {
	text, err := os.ReadFile("../../vendor-configs/README.md")
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(vendorRoot)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.Contains(string(text), "drbd/"+e.Name()) {
			t.Errorf("README does not say where drbd/%s comes from", e.Name())
		}
	}
}
