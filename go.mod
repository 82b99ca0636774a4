module github.com/ossdl/ossdl

go 1.26.0

require (
	github.com/aliyun/aliyun-oss-go-sdk v3.0.2+incompatible
	golang.org/x/sync v0.24.0
	golang.org/x/sys v0.49.0
	golang.org/x/time v0.16.0
)

require gopkg.in/check.v1 v1.0.0-20201130134442-10cb98267c6c // indirect
