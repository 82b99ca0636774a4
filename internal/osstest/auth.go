package osstest

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash"
	"net/http"
	"net/url"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"
)

// user is a pair of keys, permanent or temporary.
type user struct {
	ak, sk   string
	token    string
	expires  time.Time // of a token
	denied   []string  // actions that it may not do
	stranger bool
}

// UserOption is a property of a user.
type UserOption func(*user)

// WithoutGetObjectVersion takes oss:GetObjectVersion away: 403 to every GET and HEAD that names a version.
func WithoutGetObjectVersion() UserOption { return Without("oss:GetObjectVersion") }

// Without takes permissions away, by the names that a policy has for them: oss:RestoreObject, oss:ListObjectVersions.
func Without(actions ...string) UserOption {
	return func(u *user) { u.denied = append(u.denied, actions...) }
}

// Stranger is a user who does not own the buckets: one that RequesterPays is for.
func Stranger() UserOption { return func(u *user) { u.stranger = true } }

// WithCredentials adds a user from the start; the keys of the package stay valid.
func WithCredentials(ak, sk string) Option {
	return func(c *config) { c.users = append(c.users, user{ak: ak, sk: sk}) }
}

// AddUser adds a permanent pair of keys.
func (s *Server) AddUser(ak, sk string, opts ...UserOption) {
	s.addUser(&user{ak: ak, sk: sk}, opts)
}

// AddToken adds temporary credentials, refused with SecurityTokenExpired from expires on.
func (s *Server) AddToken(ak, sk, token string, expires time.Time, opts ...UserOption) {
	s.addUser(&user{ak: ak, sk: sk, token: token, expires: expires}, opts)
}

func (s *Server) addUser(u *user, opts []UserOption) {
	for _, o := range opts {
		o(u)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if u.token == "" {
		s.users["ak "+u.ak] = u
	} else {
		s.users["token "+u.token] = u
	}
}

// ExpireToken ends a token now.
func (s *Server) ExpireToken(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if u := s.users["token "+token]; u != nil {
		c := *u
		c.expires = time.Unix(0, 0)
		s.users["token "+token] = &c
	}
}

// RemoveUser forgets a permanent key: InvalidAccessKeyId from then on.
func (s *Server) RemoveUser(ak string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.users, "ak "+ak)
}

const (
	maxSkew   = 15 * time.Minute
	maxV4Life = 7 * 24 * time.Hour
	v4Time    = "20060102T150405Z"
	v4Name    = "OSS4-HMAC-SHA256"
)

// claim is what a request says about its sender.
type claim struct {
	ak, token  string
	signature  string
	date       time.Time // of signing; zero for a V1 URL
	expires    time.Time // of a URL
	inURL      bool
	toSign     string // what was signed
	canonical  string // V4
	v4         bool
	scope      string // V4: day/region/oss/aliyun_v4_request
	day        string
	region     string
	additional []string
}

// authenticate verifies the signature and sets q.user, which stays nil for a request that has none.
func (s *Server) authenticate(q *query) *apiError {
	header := q.req.Header.Get("Authorization")
	urlV1 := q.has("Signature") || q.has("OSSAccessKeyId")
	urlV4 := q.has("x-oss-signature-version") || q.has("x-oss-signature")
	var c *claim
	var e *apiError
	switch {
	case header != "" && (urlV1 || urlV4):
		return fail(http.StatusBadRequest, "InvalidArgument", "Only one auth mechanism allowed: the Authorization header or the signature in the URL.", "0002-00000039",
			[2]string{"ArgumentName", "Authorization"})
	case urlV4:
		c, e = claimURLV4(q)
	case urlV1:
		c, e = claimURLV1(q)
	case strings.HasPrefix(header, v4Name+" "):
		c, e = claimHeaderV4(q, strings.TrimPrefix(header, v4Name+" "))
	case strings.HasPrefix(header, "OSS "):
		c, e = claimHeaderV1(q, strings.TrimPrefix(header, "OSS "))
	case header != "":
		return fail(http.StatusBadRequest, "InvalidArgument", "Unsupported authorization mechanism.", "0002-00000001",
			[2]string{"ArgumentName", "Authorization"})
	default:
		return nil
	}
	if e != nil {
		return e
	}
	if e := s.checkTime(c); e != nil {
		return e
	}
	u, e := s.findUser(c)
	if e != nil {
		return e
	}
	if c.v4 && c.region != Region {
		return fail(http.StatusBadRequest, "InvalidArgument", "Invalid signing region in Authorization header, want "+Region+".", "0002-00000212")
	}
	want := c.signV1(u.sk)
	if c.v4 {
		want = c.signV4(u.sk)
	}
	if !hmac.Equal([]byte(want), []byte(c.signature)) {
		return mismatch(c)
	}
	q.user = u
	return nil
}

// mismatch is the answer to a wrong signature. It holds what was signed, a token included, as the service's does.
func mismatch(c *claim) *apiError {
	e := fail(http.StatusForbidden, "SignatureDoesNotMatch",
		"The request signature we calculated does not match the signature you provided. Check your key and signing method.", "0002-00000040",
		[2]string{"OSSAccessKeyId", c.ak}, [2]string{"SignatureProvided", c.signature}, [2]string{"StringToSign", c.toSign},
		[2]string{"StringToSignBytes", strings.ToUpper(strings.TrimSpace(fmt.Sprintf("% x", c.toSign)))})
	if c.v4 {
		e.elements = append(e.elements, [2]string{"CanonicalRequest", c.canonical})
	}
	return e
}

// checkTime refuses a URL that has expired and a signature made by a wrong clock.
func (s *Server) checkTime(c *claim) *apiError {
	now := s.now()
	switch {
	case c.inURL && now.After(c.expires):
		return fail(http.StatusForbidden, "AccessDenied", "Request has expired.", "0002-00000069",
			[2]string{"Expires", iso(c.expires)}, [2]string{"ServerTime", iso(now)})
	case c.inURL && c.date.After(now.Add(maxSkew)):
		return fail(http.StatusForbidden, "AccessDenied", "Request is not valid yet.", "0002-00000070", [2]string{"ServerTime", iso(now)})
	case !c.inURL && !s.quirk(AnyClock) && c.date.Sub(now).Abs() > maxSkew:
		return fail(http.StatusForbidden, "RequestTimeTooSkewed", "The difference between the request time and the current time is too large.", "0002-00000504",
			[2]string{"MaxAllowedSkewMilliseconds", strconv.FormatInt(maxSkew.Milliseconds(), 10)},
			[2]string{"RequestTime", iso(c.date)}, [2]string{"ServerTime", iso(now)})
	}
	return nil
}

func (s *Server) findUser(c *claim) (*user, *apiError) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if c.token == "" {
		if u := s.users["ak "+c.ak]; u != nil {
			return u, nil
		}
		return nil, fail(http.StatusForbidden, "InvalidAccessKeyId", "The OSS Access Key Id you provided does not exist in our records.", "0002-00000902",
			[2]string{"OSSAccessKeyId", c.ak})
	}
	u := s.users["token "+c.token]
	switch {
	case u == nil:
		return nil, fail(http.StatusForbidden, "InvalidSecurityToken", "The security token you provided is invalid.", "0002-00000903")
	case u.ak != c.ak:
		return nil, fail(http.StatusForbidden, "AccessKeyIdAndSecurityTokenNotMatch", "The access key id and the security token do not match.", "0002-00000904")
	case !s.now().Before(u.expires):
		return nil, fail(http.StatusForbidden, "SecurityTokenExpired", "The security token you provided has expired.", "0002-00000905",
			[2]string{"SecurityToken", c.token})
	}
	return u, nil
}

// authorize judges whether the user may do what is asked in the bucket.
func (s *Server) authorize(q *query, b *bucket) *apiError {
	bucketName := [2]string{"BucketName", q.bucket}
	if b == nil {
		return fail(http.StatusNotFound, "NoSuchBucket", "The specified bucket does not exist.", "0015-00000101", bucketName)
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if b.elsewhere != "" {
		return fail(http.StatusForbidden, "AccessDenied",
			"The bucket you are attempting to access must be addressed using the specified endpoint. Please send all future requests to this endpoint.",
			"0003-00001403", [2]string{"Bucket", b.name}, [2]string{"Endpoint", b.elsewhere})
	}
	reads := q.method == http.MethodGet || q.method == http.MethodHead
	if q.user == nil && !(b.publicRead && reads && q.key != "" && !b.requesterPays) {
		return fail(http.StatusForbidden, "AccessDenied", "You have no right to access this object because of bucket acl.", "0003-00000001", bucketName)
	}
	if b.notYours && !b.publicRead {
		return fail(http.StatusForbidden, "AccessDenied", "You have no right to access this object because of bucket acl.", "0003-00000001", bucketName)
	}
	if action := q.action(); q.user != nil && slices.Contains(q.user.denied, action) {
		return fail(http.StatusForbidden, "AccessDenied", "You have no right to access this object.", "0003-00000301",
			[2]string{"AuthAction", action})
	}
	if b.requesterPays && q.user.stranger {
		payer := q.req.Header.Get("X-Oss-Request-Payer") + q.get("x-oss-request-payer")
		if payer != "requester" {
			return fail(http.StatusForbidden, "AccessDenied", "Access denied for requester pay bucket", "0003-00000703", bucketName)
		}
	}
	return nil
}

// action is the permission that the request needs.
func (q *query) action() string {
	version := ""
	if q.has("versionId") {
		version = "Version"
	}
	switch {
	case q.key == "" && q.has("versions"):
		return "oss:ListObjectVersions"
	case q.key == "":
		return "oss:ListObjects"
	case q.method == http.MethodGet || q.method == http.MethodHead:
		return "oss:GetObject" + version
	case q.method == http.MethodDelete && q.has("uploadId"):
		return "oss:AbortMultipartUpload"
	case q.method == http.MethodDelete:
		return "oss:DeleteObject" + version
	case q.has("restore"):
		return "oss:RestoreObject" + version
	}
	return "oss:PutObject"
}

func badArgument(name, value, message string) *apiError {
	return fail(http.StatusBadRequest, "InvalidArgument", message, "0002-00000002",
		[2]string{"ArgumentName", name}, [2]string{"ArgumentValue", value})
}

// requestTime is when a request with a signature in its header was signed.
func requestTime(q *query) (time.Time, *apiError) {
	if v := q.req.Header.Get("X-Oss-Date"); v != "" {
		if t, err := time.Parse(v4Time, v); err == nil {
			return t, nil
		}
		if t, err := http.ParseTime(v); err == nil {
			return t, nil
		}
	} else if t, err := http.ParseTime(q.req.Header.Get("Date")); err == nil {
		return t, nil
	}
	return time.Time{}, fail(http.StatusForbidden, "AccessDenied", "OSS authentication requires a valid Date.", "0002-00000201")
}

func claimHeaderV1(q *query, rest string) (*claim, *apiError) {
	ak, signature, ok := strings.Cut(rest, ":")
	if !ok {
		return nil, badArgument("Authorization", rest, "The Authorization header has a wrong form.")
	}
	date, e := requestTime(q)
	if e != nil {
		return nil, e
	}
	c := &claim{ak: ak, signature: signature, token: q.req.Header.Get("X-Oss-Security-Token"), date: date}
	c.toSign = stringToSignV1(q, q.req.Header.Get("Date"))
	return c, nil
}

func claimURLV1(q *query) (*claim, *apiError) {
	expires, err := strconv.ParseInt(q.get("Expires"), 10, 64)
	if err != nil || !q.has("Signature") || !q.has("OSSAccessKeyId") {
		return nil, fail(http.StatusForbidden, "AccessDenied", "Query-string authentication requires the Signature, Expires and OSSAccessKeyId parameters", "0002-00000061")
	}
	c := &claim{
		ak: q.get("OSSAccessKeyId"), signature: q.get("Signature"), token: q.get("security-token"),
		expires: time.Unix(expires, 0), inURL: true,
	}
	c.toSign = stringToSignV1(q, q.get("Expires"))
	return c, nil
}

func stringToSignV1(q *query, date string) string {
	h := q.req.Header
	var b strings.Builder
	b.WriteString(q.method + "\n" + h.Get("Content-Md5") + "\n" + h.Get("Content-Type") + "\n" + date + "\n")
	for _, name := range ossHeaders(h) {
		b.WriteString(name + ":" + h.Get(name) + "\n")
	}
	b.WriteString("/")
	if q.bucket != "" {
		b.WriteString(q.bucket + "/" + q.key)
	}
	var params []pair
	for _, p := range q.values {
		if signedParameter(p.key) {
			params = append(params, p)
		}
	}
	sort.SliceStable(params, func(i, j int) bool { return params[i].key < params[j].key })
	for i, p := range params {
		b.WriteByte("?&"[min(i, 1)])
		b.WriteString(p.key)
		if p.value != "" {
			b.WriteString("=" + p.value)
		}
	}
	return b.String()
}

// ossHeaders are the x-oss-… headers of a request, lower case, sorted.
func ossHeaders(h http.Header) []string {
	var names []string
	for k := range h {
		if strings.HasPrefix(k, "X-Oss-") { // canonical: they were parsed by net/http
			names = append(names, strings.ToLower(k))
		}
	}
	sort.Strings(names)
	return names
}

// subResources are the query parameters that a V1 signature covers besides x-oss-… ones.
var subResources = strings.Fields(`acl append asyncFetch bucketInfo callback callback-var cloudboxes cname comp
	continuation-token cors delete encryption endTime img inventory inventoryId lifecycle live location logging metaQuery
	objectMeta partNumber policy position qos qosInfo referer regionList replication replicationLocation
	replicationProgress requestPayment resourceGroup response-cache-control response-content-disposition
	response-content-encoding response-content-language response-content-type response-expires responseHeader restore
	rtc security-token sequential startTime stat status style styleName symlink tagging transferAcceleration udf
	udfApplication udfApplicationLog udfId udfImage udfImageDesc udfName uploadId uploads versionId versioning versions
	vod website withHashContext worm wormExtend wormId`)

func signedParameter(key string) bool {
	return slices.Contains(subResources, key) || strings.HasPrefix(key, "x-oss-")
}

// authParameter reports whether a query parameter belongs to a signature.
func authParameter(key string) bool {
	switch key {
	case "OSSAccessKeyId", "Expires", "Signature", "security-token", "x-oss-signature-version", "x-oss-credential",
		"x-oss-date", "x-oss-expires", "x-oss-signature", "x-oss-additional-headers", "x-oss-security-token",
		"x-oss-request-payer", "x-oss-traffic-limit":
		return true
	}
	return false
}

func (c *claim) signV1(sk string) string {
	return base64.StdEncoding.EncodeToString(sum(sha1.New, []byte(sk), c.toSign))
}

func (c *claim) signV4(sk string) string {
	key := []byte("aliyun_v4" + sk)
	for _, part := range []string{c.day, c.region, "oss", "aliyun_v4_request"} {
		key = sum(sha256.New, key, part)
	}
	return hex.EncodeToString(sum(sha256.New, key, c.toSign))
}

func sum(h func() hash.Hash, key []byte, data string) []byte {
	m := hmac.New(h, key)
	m.Write([]byte(data))
	return m.Sum(nil)
}

func claimHeaderV4(q *query, rest string) (*claim, *apiError) {
	c := &claim{token: q.req.Header.Get("X-Oss-Security-Token")}
	var credential string
	for part := range strings.SplitSeq(rest, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch name {
		case "Credential":
			credential = value
		case "AdditionalHeaders":
			c.additional = strings.Split(value, ";")
		case "Signature":
			c.signature = value
		}
	}
	date, e := requestTime(q)
	if e != nil {
		return nil, e
	}
	c.date = date
	stamp := q.req.Header.Get("X-Oss-Date")
	if stamp == "" {
		stamp = q.req.Header.Get("Date")
	}
	if q.req.Header.Get("X-Oss-Content-Sha256") != "UNSIGNED-PAYLOAD" {
		return nil, badArgument("x-oss-content-sha256", q.req.Header.Get("X-Oss-Content-Sha256"), "x-oss-content-sha256 must be UNSIGNED-PAYLOAD.")
	}
	return c, c.finishV4(q, credential, stamp)
}

func claimURLV4(q *query) (*claim, *apiError) {
	if v := q.get("x-oss-signature-version"); v != v4Name {
		return nil, badArgument("x-oss-signature-version", v, "The signature version is unknown.")
	}
	c := &claim{token: q.get("x-oss-security-token"), signature: q.get("x-oss-signature"), inURL: true}
	if v := q.get("x-oss-additional-headers"); v != "" {
		c.additional = strings.Split(v, ";")
	}
	stamp := q.get("x-oss-date")
	var err error
	if c.date, err = time.Parse(v4Time, stamp); err != nil {
		return nil, badArgument("x-oss-date", stamp, "x-oss-date has a wrong form.")
	}
	seconds, err := strconv.ParseInt(q.get("x-oss-expires"), 10, 64)
	if err != nil || seconds < 0 || seconds > int64(maxV4Life/time.Second) {
		return nil, badArgument("x-oss-expires", q.get("x-oss-expires"), "x-oss-expires must be 0 to 604800 seconds.")
	}
	c.expires = c.date.Add(time.Duration(seconds) * time.Second)
	return c, c.finishV4(q, q.get("x-oss-credential"), stamp)
}

// finishV4 splits the credential and makes the string to sign.
func (c *claim) finishV4(q *query, credential, stamp string) *apiError {
	c.v4 = true
	parts := strings.Split(credential, "/")
	if len(parts) != 5 || parts[3] != "oss" || parts[4] != "aliyun_v4_request" {
		return badArgument("Credential", credential, "The credential must be ID/DAY/REGION/oss/aliyun_v4_request.")
	}
	c.ak, c.day, c.region = parts[0], parts[1], parts[2]
	if c.day != c.date.UTC().Format("20060102") {
		return badArgument("Credential", credential, "The day of the credential is not that of the date.")
	}
	c.scope = strings.Join(parts[1:], "/")
	c.canonical = canonicalV4(q, c)
	hashed := sha256.Sum256([]byte(c.canonical))
	c.toSign = v4Name + "\n" + stamp + "\n" + c.scope + "\n" + hex.EncodeToString(hashed[:])
	return nil
}

func canonicalV4(q *query, c *claim) string {
	uri := "/"
	if q.bucket != "" {
		uri += q.bucket + "/" + strings.ReplaceAll(escape(q.key), "%2F", "/")
	}
	var params []string
	for _, p := range q.values {
		if p.key == "x-oss-signature" {
			continue
		}
		one := escape(p.key)
		if p.value != "" {
			one += "=" + escape(p.value)
		}
		params = append(params, one)
	}
	// By name, then value: a name that begins another comes first.
	sort.Slice(params, func(i, j int) bool {
		a, av, _ := strings.Cut(params[i], "=")
		b, bv, _ := strings.Cut(params[j], "=")
		return a < b || a == b && av < bv
	})

	h := q.req.Header
	names := ossHeaders(h)
	for _, name := range []string{"content-type", "content-md5"} {
		if h.Get(name) != "" {
			names = append(names, name)
		}
	}
	for _, name := range c.additional {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	var lines strings.Builder
	for _, name := range names {
		value := h.Get(name)
		if name == "host" {
			value = q.req.Host
		}
		lines.WriteString(name + ":" + strings.TrimSpace(value) + "\n")
	}
	return strings.Join([]string{
		q.method, uri, strings.Join(params, "&"), lines.String(), strings.Join(c.additional, ";"), "UNSIGNED-PAYLOAD",
	}, "\n")
}

// escape is percent-encoding of all but letters, digits and -_.~
func escape(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }
