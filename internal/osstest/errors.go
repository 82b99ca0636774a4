package osstest

import (
	"bytes"
	"encoding/base64"
	"net/http"
	"strings"
)

// apiError is an error as the service answers it.
type apiError struct {
	status   int
	code     string
	message  string
	ec       string
	elements [][2]string // further elements of the document
	header   [][2]string
}

func fail(status int, code, message, ec string, elements ...[2]string) *apiError {
	return &apiError{status: status, code: code, message: message, ec: ec, elements: elements}
}

// document is the XML of the error.
func (e *apiError) document(requestID, host string) []byte {
	var b bytes.Buffer
	b.WriteString("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error>\n")
	all := [][2]string{{"Code", e.code}, {"Message", e.message}, {"RequestId", requestID}, {"HostId", host}}
	all = append(all, e.elements...)
	if e.ec != "" {
		all = append(all, [2]string{"EC", e.ec},
			[2]string{"RecommendDoc", "https://api.aliyun.com/troubleshoot?q=" + e.ec})
	}
	for _, el := range all {
		b.WriteString("  <" + el[0] + ">")
		b.WriteString(xmlText.Replace(el[1]))
		b.WriteString("</" + el[0] + ">\n")
	}
	b.WriteString("</Error>\n")
	return b.Bytes()
}

// xmlText leaves line ends as they are: a string to sign can be read in the document.
var xmlText = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")

// errorReply answers with the document, or for a HEAD with the header that holds it.
func (s *Server) errorReply(q *query, e *apiError) *reply {
	doc := e.document(q.requestID, q.host)
	r := newReply(e.status)
	for _, h := range e.header {
		r.header.Set(h[0], h[1])
	}
	r.header.Set("Content-Type", "application/xml")
	if e.ec != "" {
		r.header.Set("X-Oss-Ec", e.ec)
	}
	if e.status == http.StatusNotModified {
		r.header.Del("Content-Type")
		r.bodiless = true
		r.declared = undeclared
		return r
	}
	if q.method == http.MethodHead && !s.quirk(NoErrHeader) {
		r.header.Set("X-Oss-Err", base64std(doc))
	}
	r.setBody(Bytes(doc), 0, int64(len(doc)))
	return r
}

func base64std(b []byte) string { return base64.StdEncoding.EncodeToString(b) }
