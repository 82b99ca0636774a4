package torture_test

import (
	"strings"
	"testing"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/osstest"
)

// TestEncryptedByItsWriter checks that an object with the metadata of an encryption client is reported as encrypted, in the
// result and once in the log, whether or not it is verified, and that other objects are not.
func TestEncryptedByItsWriter(t *testing.T) {
	for name, c := range map[string]struct {
		object []osstest.ObjectOption
		want   bool
	}{
		"encrypted":             {[]osstest.ObjectOption{osstest.Meta("client-side-encryption-key", "a2V5"), osstest.Meta("client-side-encryption-cek-alg", "AES/CTR/NoPadding")}, true},
		"by an old client":      {[]osstest.ObjectOption{osstest.Meta("oss-crypto-key", "a2V5")}, true},
		"encrypted by OSS":      {[]osstest.ObjectOption{osstest.Header("x-oss-server-side-encryption", "KMS")}, false},
		"with another metadata": {[]osstest.ObjectOption{osstest.Meta("client", "side-encryption-key")}, false},
	} {
		for _, through := range []entryPoint{viaKey, viaUnsigned, viaURL, viaWriter, viaReader} {
			t.Run(name+", "+string(through), func(t *testing.T) {
				fieldCase()
				var logged harness.Records
				st := newServerStage(t, stageConfig{through: through, object: c.object, opts: []ossdl.Option{ossdl.WithLogger(logged.Logger())}})
				res, err := st.download()
				if err != nil || res.Encrypted != c.want || !res.Verified {
					t.Errorf("%+v, %v", res, err)
				}
				if n := strings.Count(logged.String(), "level=WARN msg=\"object was encrypted by its writer"); n != 1 && c.want || n != 0 && !c.want {
					t.Errorf("%d warnings:\n%s", n, logged.String())
				}
			})
		}
	}
	t.Run("DownloadPrefix", func(t *testing.T) {
		fieldCase()
		s := harness.NewServer(t)
		s.Put("bkt", "a", osstest.Random(1, 1000), osstest.Meta("client-side-encryption-key", "a2V5"))
		s.Put("bkt", "b", osstest.Random(2, 1000))
		s.Put("bkt", "c", osstest.Random(3, 1000), osstest.Meta("client-side-encryption-key", "a2V5"))
		var logged harness.Records
		res, err := harness.NewDownloader(t, s).DownloadPrefix(t.Context(), "bkt", "", t.TempDir(), ossdl.WithLogger(logged.Logger()))
		if err != nil || res.Done != 3 || res.Encrypted != 2 || strings.Count(logged.String(), "object was encrypted by its writer") != 2 {
			t.Errorf("%+v, %v\n%s", res, err, logged.String())
		}
	})
}
