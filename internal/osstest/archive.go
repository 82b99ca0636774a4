package osstest

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The storage classes whose objects must be restored before they are read.
const (
	Archive         = "Archive"
	ColdArchive     = "ColdArchive"
	DeepColdArchive = "DeepColdArchive"
)

// Tiers of a restore, the fastest first.
const (
	Expedited = "Expedited"
	Standard  = "Standard"
	Bulk      = "Bulk"
)

// Never is a restore that takes centuries. Server.Restore can end it.
const Never time.Duration = math.MaxInt64

// thaw is a restore that was asked for. Which state the object is in depends on the server's clock alone, so that a test
// that sets the clock waits for nothing.
type thaw struct {
	tier    string
	days    int
	ready   time.Time
	expires time.Time // zero: days after ready
}

// archiveState is what a restore has brought about.
type archiveState int

const (
	frozen   archiveState = iota
	thawing               // x-oss-restore: ongoing-request="true"
	restored              // readable
)

// end is when the object freezes again.
func (t *thaw) end() time.Time {
	if t.expires.IsZero() {
		return t.ready.Add(days(t.days))
	}
	return t.expires
}

// archiveState returns the state of an object of an archive class, and its x-oss-restore. Objects of other classes have none.
func (s *Server) archiveState(o *Object) (state archiveState, header string) {
	switch {
	case strings.Contains(o.RestoreState, `ongoing-request="false"`):
		return restored, o.RestoreState
	case o.RestoreState != "":
		return thawing, o.RestoreState
	case o.thaw == nil || !archived(o.Class):
		return frozen, ""
	}
	now := s.now()
	switch end := o.thaw.end(); {
	case now.Before(o.thaw.ready):
		return thawing, `ongoing-request="true"`
	case now.Before(end):
		return restored, fmt.Sprintf(`ongoing-request="false", expiry-date="%s"`, httpTime(end))
	}
	return frozen, ""
}

func archived(class string) bool {
	return class == Archive || class == ColdArchive || class == DeepColdArchive
}

// unreadable reports whether a GET of the object is refused. The server's lock must be held.
func (s *Server) unreadable(b *bucket, o *Object) bool {
	if !archived(o.Class) || o.Class == Archive && b.directRead {
		return false
	}
	state, _ := s.archiveState(o)
	return state != restored
}

// ArchiveDirectRead is the setting of a bucket by which objects of class Archive are read without a restore. Their headers
// are the same as ever.
func ArchiveDirectRead(on bool) BucketOption { return func(b *bucket) { b.directRead = on } }

// WithThawTime makes every restore take d: 0 ends it at once, Never leaves it to Server.Restore. By default it takes the
// longest that OSS says for class and tier, from a minute to two days, on the server's clock.
func WithThawTime(d time.Duration) Option {
	return func(c *config) { c.thawTime = func(*Object, string) time.Duration { return d } }
}

// SetThawTime makes the restores asked for from now on take what fn says for object and tier; nil: as long as with OSS.
func (s *Server) SetThawTime(fn func(o *Object, tier string) time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.thawTime = fn
}

// thawTimes are the longest times that OSS says.
var thawTimes = map[string]map[string]time.Duration{
	Archive:         {Standard: time.Minute},
	ColdArchive:     {Expedited: time.Hour, Standard: 5 * time.Hour, Bulk: 12 * time.Hour},
	DeepColdArchive: {Expedited: 12 * time.Hour, Standard: 48 * time.Hour},
}

// Archive moves the object's current version to a storage class, frozen.
func (s *Server) Archive(bucket, key string, class ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mustBucket(bucket).change(key, "", func(o *Object) {
		o.Class, o.RestoreState, o.thaw = append(class, Archive)[0], "", nil
	})
}

// Restore makes an archived object readable, until the time given. It ends a restore that was asked for.
func (s *Server) Restore(bucket, key string, expires time.Time) {
	s.RestoreVersion(bucket, key, "", expires)
}

// RestoreVersion does it to a version; "" is the current one.
func (s *Server) RestoreVersion(bucket, key, version string, expires time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mustBucket(bucket).change(key, version, func(o *Object) {
		o.RestoreState, o.thaw = "", &thaw{tier: Standard, ready: s.now(), expires: expires}
	})
}

// Restores is how often a restore of the object was begun by requests, which is what OSS charges for.
func (s *Server) Restores(bucket, key string) int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.mustBucket(bucket).restores[key]
}

// restore answers RestoreObject.
func (s *Server) restore(q *query, b *bucket) (*reply, *apiError) {
	if e := onlyParameters(q, "restore", "versionId"); e != nil {
		return nil, e
	}
	body, e := s.readBody(q)
	if e != nil {
		return nil, e
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	o, e := s.pick(q, b)
	if e != nil {
		return nil, e
	}
	if !archived(o.Class) {
		return nil, fail(http.StatusBadRequest, "OperationNotSupported", "The operation is not supported for this resource", "0016-00000702")
	}
	t, e := s.readRestore(body, o.Class)
	if e != nil {
		return nil, e
	}
	state, _ := s.archiveState(o)
	status := http.StatusAccepted
	switch {
	case state == frozen:
		b.restores[o.Key]++
		t.start(s, o)
	case state == thawing:
		if e := s.upgrade(o, t); e != nil {
			return nil, e
		}
		if s.quirk(TierUpgrade200) {
			status = http.StatusOK
		}
		t.start(s, o)
	case o.thaw != nil:
		status, t = http.StatusOK, o.thaw.longer(t.days, mostDays(o.Class))
	default:
		status, t = http.StatusOK, nil // a state that the test has fixed
	}
	b.change(o.Key, o.version(), func(o *Object) { o.thaw = t })
	r := newReply(status)
	r.setBody(Bytes(nil), 0, 0)
	if id := s.shownVersion(b, o); id != "" {
		r.header.Set("X-Oss-Version-Id", id)
	}
	if o.Class != Archive && t != nil {
		r.header.Set("X-Oss-Object-Restore-Priority", t.tier)
	}
	return r, nil
}

// start begins the restore now.
func (t *thaw) start(s *Server, o *Object) {
	d := thawTimes[o.Class][t.tier]
	if s.thawTime != nil {
		d = s.thawTime(o, t.tier)
	}
	t.ready = s.now().Add(d)
}

// longer adds days to those that are left, up to the most that the class allows.
func (t *thaw) longer(more, most int) *thaw {
	c := *t
	c.expires = t.end().Add(days(more))
	if last := t.ready.Add(days(most)); c.expires.After(last) {
		c.expires = last
	}
	return &c
}

func days(n int) time.Duration { return time.Duration(n) * 24 * time.Hour }

// upgrade reports why a restore that is under way cannot become the one that is asked for.
func (s *Server) upgrade(o *Object, t *thaw) *apiError {
	inProgress := fail(http.StatusConflict, "RestoreAlreadyInProgress", "The restore operation is in progress.", "0016-00000701")
	if o.thaw == nil || s.quirk(NoTierUpgrade) {
		return inProgress
	}
	tiers := []string{Expedited, Standard, Bulk}
	before, after := slices.Index(tiers, o.thaw.tier), slices.Index(tiers, t.tier)
	switch {
	case after == before:
		return inProgress
	case after > before && s.quirk(LowerTier400):
		return fail(http.StatusBadRequest, "OperationNotSupported", "The restore priority cannot be decreased.", "0016-00000715")
	case after > before:
		inProgress.ec = "0016-00000715"
		return inProgress
	}
	return nil
}

func mostDays(class string) int {
	if class == Archive {
		return 7
	}
	return 365
}

// readRestore reads and checks the body of a RestoreObject. It may be empty: a day, and the tier Standard.
func (s *Server) readRestore(body []byte, class string) (*thaw, *apiError) {
	t := &thaw{tier: Standard, days: 1}
	if len(body) == 0 {
		return t, nil
	}
	bad := func(ec string) *apiError {
		if s.quirk(RestoreInvalidArgument) && ec != "0016-00000706" {
			return fail(http.StatusBadRequest, "InvalidArgument", "The restore request is invalid.", ec)
		}
		return fail(http.StatusBadRequest, "MalformedXML", "The XML you provided was not well-formed or did not validate against our published schema.", ec)
	}
	nodes, err := leaves(body)
	if err != nil {
		return nil, bad("0016-00000706")
	}
	tierEC, daysEC := "0016-00000703", "0016-00000704"
	if class == Archive {
		tierEC, daysEC = "0016-00000714", "0016-00000708"
	}
	counts := 0
	for _, n := range nodes {
		switch n[0] {
		case "RestoreRequest", "RestoreRequest/JobParameters": // empty
		case "RestoreRequest/Days":
			if counts++; counts > 1 {
				return nil, bad("0016-00000707")
			}
			if t.days, err = strconv.Atoi(n[1]); err != nil || t.days < 1 || t.days > mostDays(class) {
				return nil, bad(daysEC)
			}
		case "RestoreRequest/JobParameters/Tier":
			if _, ok := thawTimes[class][n[1]]; !ok {
				return nil, bad(tierEC)
			}
			t.tier = n[1]
		default:
			return nil, bad("0016-00000714")
		}
		if class == Archive && strings.HasPrefix(n[0], "RestoreRequest/JobParameters") {
			return nil, bad("0016-00000714")
		}
	}
	return t, nil
}

// leaves are the elements of a document that have no others in them, each with its path and its text.
func leaves(doc []byte) (all [][2]string, err error) {
	d := xml.NewDecoder(strings.NewReader(string(doc)))
	var path []string
	text, leaf := "", false
	for {
		t, err := d.Token()
		if errors.Is(err, io.EOF) && len(all) > 0 {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		switch t := t.(type) {
		case xml.StartElement:
			path, text, leaf = append(path, t.Name.Local), "", true
		case xml.CharData:
			text += string(t)
		case xml.EndElement:
			if leaf {
				all = append(all, [2]string{strings.Join(path, "/"), strings.TrimSpace(text)})
			}
			path, leaf = path[:len(path)-1], false
		}
	}
}

// directRead answers GetBucketArchiveDirectRead.
func (s *Server) directRead(b *bucket) (*reply, *apiError) {
	s.mu.RLock()
	on := b.directRead
	s.mu.RUnlock()
	return xmlReply(struct {
		XMLName xml.Name `xml:"ArchiveDirectReadConfiguration"`
		Enabled bool
	}{Enabled: on})
}
