package torture_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl/internal/osstest"
)

// TestErrorNamesKeyRangeAndRequest checks that of a range that the service refuses, the error tells the object, the file,
// the bytes that are missing and the request ID, in its text and in its types.
func TestErrorNamesKeyRangeAndRequest(t *testing.T) {
	st := newServerStage(t, stageConfig{})
	st.s.Once(func(r *osstest.Request) bool { return r.Start == 7*liePart }, osstest.Error(403, "AccessDenied"))
	_, err := st.download()
	st.mustHaveFired()
	pe := partError(t, err)
	if pe.Offset != 7*liePart || pe.Size != liePart || pe.Attempts != 1 {
		t.Errorf("%+v", *pe)
	}
	var se oss.ServiceError
	if !errors.As(err, &se) || se.Code != "AccessDenied" || se.RequestID == "" {
		t.Fatalf("%v holds %+v", err, se)
	}
	refused := func(r osstest.Request) bool { return r.Status == 403 && r.RequestID == se.RequestID }
	if !slices.ContainsFunc(st.s.Requests(), refused) {
		t.Errorf("no request %s was refused", se.RequestID)
	}
	for _, part := range []string{"oss://bkt/key", st.path, fmt.Sprintf("bytes %d-%d", 7*liePart, 8*liePart-1), se.RequestID} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%v does not name %s", err, part)
		}
	}
	st.mustResume(st.claimedBytes())
}
