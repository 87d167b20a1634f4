package wan

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/md5"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"hash"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/quic-go/quic-go"
)

const (
	alpn       = "drship/1"
	serverName = "drship" // sent in the clear; names nobody
)

// Trust says how this node knows its peers. Where both pins and a secret are configured, both must hold.
type Trust struct {
	// Certificate is this node's own, made by GenerateIdentity. Empty: one is made for the life of the Endpoint, which is
	// enough where a secret does the proving.
	Certificate tls.Certificate
	// Pins holds, for each peer's name, the fingerprints of the certificates that it may show.
	Pins map[string][]string
	// HMACAlg and Secret are DRBD's cram-hmac-alg (md5, sha1, sha256, sha512) and shared-secret.
	HMACAlg string
	Secret  string
	// AllowUnauthenticated accepts peers that have neither pins nor a secret.
	AllowUnauthenticated bool
}

// hmacs are DRBD's names of what can go into an HMAC. The secret is used in an HMAC only, for which even MD5 is sound.
var hmacs = map[string]func() hash.Hash{"md5": md5.New, "sha1": sha1.New, "sha256": sha256.New, "sha512": sha512.New}

// GenerateIdentity makes a key and a certificate that a node keeps, and the certificate's fingerprint, which its
// peers pin. The certificate says nothing but the name and does not expire in practice: trust is in the pin.
func GenerateIdentity(name string) (certPEM, keyPEM []byte, fingerprint string, err error) {
	if err := validName("node", name); err != nil {
		return nil, nil, "", err
	}
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, "", fmt.Errorf("make key of %s: %w", name, err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, nil, "", fmt.Errorf("make certificate of %s: %w", name, err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC), // whatever the clock of a fresh machine says
		NotAfter:     time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, pub, key)
	if err != nil {
		return nil, nil, "", fmt.Errorf("make certificate of %s: %w", name, err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, "", fmt.Errorf("encode key of %s: %w", name, err)
	}
	certPEM = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
	return certPEM, keyPEM, fingerprintOf(der), nil
}

// Fingerprint is the SHA-256 of a certificate, as "sha256:" and 64 hexadecimal digits; it is empty for an empty
// certificate. `openssl x509 -fingerprint -sha256` prints the same digits.
func Fingerprint(cert tls.Certificate) string {
	if len(cert.Certificate) == 0 {
		return ""
	}
	return fingerprintOf(cert.Certificate[0])
}

func fingerprintOf(der []byte) string {
	sum := sha256.Sum256(der)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// ParseFingerprint brings a fingerprint into Fingerprint's form. Colons, capitals and a missing "sha256:" are accepted.
func ParseFingerprint(s string) (string, error) {
	digits := strings.ReplaceAll(strings.TrimPrefix(strings.ToLower(strings.TrimSpace(s)), "sha256:"), ":", "")
	if b, err := hex.DecodeString(digits); err != nil || len(b) != sha256.Size {
		return "", fmt.Errorf("fingerprint %q is not a SHA-256 in hexadecimal", s)
	}
	return "sha256:" + digits, nil
}

// check brings pins into one form and finds out whether every peer can be trusted.
func (t Trust) check(node string, peers []Peer) (Trust, error) {
	if t.Secret != "" && hmacs[t.HMACAlg] == nil {
		return t, fmt.Errorf("cram-hmac-alg %q is unknown, known are md5, sha1, sha256, sha512", t.HMACAlg)
	}
	if t.Secret == "" {
		t.HMACAlg = ""
	}
	pins := map[string][]string{}
	for name, list := range t.Pins {
		for _, s := range list {
			fp, err := ParseFingerprint(s)
			if err != nil {
				return t, fmt.Errorf("pin of %s: %w", name, err)
			}
			pins[name] = append(pins[name], fp)
		}
	}
	t.Pins = pins
	for _, p := range peers {
		if t.Secret == "" && len(pins[p.Name]) == 0 && !t.AllowUnauthenticated {
			return t, fmt.Errorf("%w for peer %s: pin its certificate, set a shared-secret, or allow-unauthenticated", ErrNoAuthentication, p.Name)
		}
	}
	if len(t.Certificate.Certificate) > 0 {
		return t, nil
	}
	certPEM, keyPEM, _, err := GenerateIdentity(node)
	if err != nil {
		return t, err
	}
	t.Certificate, err = tls.X509KeyPair(certPEM, keyPEM)
	return t, err
}

// dialConfig is for a connection to the named peer.
func (t Trust) dialConfig(peer string) *tls.Config {
	return t.tlsConfig(func(cs tls.ConnectionState) error { return t.checkPin(peer, cs) })
}

// listenConfig is for a listener, which does not know yet who calls. rejected is told of those that it turns away.
func (t Trust) listenConfig(rejected func(addr string, err error)) *tls.Config {
	c := t.tlsConfig(t.checkAnyPin)
	c.GetConfigForClient = func(call *tls.ClientHelloInfo) (*tls.Config, error) {
		return t.tlsConfig(func(cs tls.ConnectionState) error {
			err := t.checkAnyPin(cs)
			if err != nil {
				rejected(call.Conn.RemoteAddr().String(), err)
			}
			return err
		}), nil
	}
	return c
}

// tlsConfig is for either side. Certificates are pinned, so chains, names and dates mean nothing and are not looked at.
func (t Trust) tlsConfig(verify func(tls.ConnectionState) error) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		Certificates:           []tls.Certificate{t.Certificate},
		NextProtos:             []string{alpn},
		ServerName:             serverName,
		InsecureSkipVerify:     true, // VerifyConnection does it
		ClientAuth:             tls.RequireAnyClientCert,
		SessionTicketsDisabled: true, // each connection shows its certificate
		VerifyConnection:       verify,
	}
}

// checkPin holds the certificate shown against the pins of a peer, if it has any.
func (t Trust) checkPin(peer string, cs tls.ConnectionState) error {
	pins := t.Pins[peer]
	if len(pins) == 0 {
		return nil
	}
	if len(cs.PeerCertificates) == 0 {
		return fmt.Errorf("%w: %s shows no certificate", ErrAuth, peer)
	}
	if fp := fingerprintOf(cs.PeerCertificates[0].Raw); !slices.Contains(pins, fp) {
		return fmt.Errorf("%w: the certificate of %s is %s, which is not pinned", ErrAuth, peer, fp)
	}
	return nil
}

// checkAnyPin turns strangers away as early as it can: where every peer is pinned, certificates that nobody has.
func (t Trust) checkAnyPin(cs tls.ConnectionState) error {
	if len(cs.PeerCertificates) == 0 {
		return fmt.Errorf("%w: no certificate", ErrAuth)
	}
	if t.Secret != "" || t.AllowUnauthenticated {
		return nil // a peer without pins may be calling; its name decides
	}
	fp := fingerprintOf(cs.PeerCertificates[0].Raw)
	for _, pins := range t.Pins {
		if slices.Contains(pins, fp) {
			return nil
		}
	}
	return fmt.Errorf("%w: the certificate is %s, which is not pinned", ErrAuth, fp)
}

// Labels of the two directions: what one side sends proves nothing when it is sent back.
const (
	exporterLabel = "EXPORTER-drship-handshake"
	exporterJoin  = "EXPORTER-drship-stripes" // of a session's first connection: the key by which others join it
	labelDialler  = "drship/1 proof of the dialler"
	labelListener = "drship/1 proof of the listener"
	labelReset    = "drship/1 stateless reset"
)

// proof is the HMAC that shows knowledge of the secret, bound to both Hellos as they went over the wire and, by the
// exporter, to this one TLS connection. Without a secret it is empty.
func (t Trust) proof(label string, dialler, listener, exporter []byte) []byte {
	if t.Secret == "" {
		return nil
	}
	mac := hmac.New(hmacs[t.HMACAlg], []byte(t.Secret))
	for _, part := range [][]byte{[]byte(label), dialler, listener, exporter} {
		mac.Write([]byte{byte(len(part) >> 8), byte(len(part))})
		mac.Write(part)
	}
	return mac.Sum(nil)
}

// resetKey lets a restarted node tell its peers at once that it has forgotten their connections. It must survive the
// restart, and differ between endpoints, so it is derived from what this node keeps.
func (t Trust) resetKey(resource, node string) (*quic.StatelessResetKey, error) {
	seed := []byte(t.Secret)
	if t.Secret == "" {
		der, err := x509.MarshalPKCS8PrivateKey(t.Certificate.PrivateKey)
		if err != nil {
			return nil, fmt.Errorf("derive key of stateless resets: %w", err)
		}
		seed = der
	}
	mac := hmac.New(sha256.New, seed)
	mac.Write(bytes.Join([][]byte{[]byte(labelReset), []byte(resource), []byte(node)}, []byte{0}))
	key := quic.StatelessResetKey(mac.Sum(nil))
	return &key, nil
}

var errNoExporter = errors.New("TLS exporter failed")

func exporter(cs tls.ConnectionState, label string) ([]byte, error) {
	b, err := cs.ExportKeyingMaterial(label, nil, sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("%w: %w: %w", ErrAuth, errNoExporter, err)
	}
	return b, nil
}
