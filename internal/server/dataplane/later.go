package dataplane

import (
	"context"

	v1beta2pb "github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2"
)

// The methods of the published interface that come later. Each says so with a typed reason.

func (s *gateway) CreateFileSystemSnapshot(context.Context, *v1beta2pb.CreateFileSystemSnapshotRequest) (*v1beta2pb.CreateFileSystemSnapshotResponse, error) {
	return nil, later("CreateFileSystemSnapshot")
}

func (s *gateway) GetFileSystemSnapshot(context.Context, *v1beta2pb.GetFileSystemSnapshotRequest) (*v1beta2pb.FileSystemSnapshot, error) {
	return nil, later("GetFileSystemSnapshot")
}

func (s *gateway) ListFileSystemSnapshots(context.Context, *v1beta2pb.ListFileSystemSnapshotsRequest) (*v1beta2pb.ListFileSystemSnapshotsResponse, error) {
	return nil, later("ListFileSystemSnapshots")
}

func (s *gateway) DeleteFileSystemSnapshot(context.Context, *v1beta2pb.DeleteFileSystemSnapshotRequest) (*v1beta2pb.DeleteFileSystemSnapshotResponse, error) {
	return nil, later("DeleteFileSystemSnapshot")
}

func (s *gateway) Raw(context.Context, *v1beta2pb.RawSandboxRequest) (*v1beta2pb.RawSandboxResponse, error) {
	return nil, later("Raw").WithHint("use Exec, AddFile, RetrieveFile, Get or Stop")
}

func (s *gateway) GetObjectStorageWIFConfig(context.Context, *v1beta2pb.GetObjectStorageWIFConfigRequest) (*v1beta2pb.ObjectStorageWIFConfig, error) {
	return nil, later("GetObjectStorageWIFConfig")
}

func (s *gateway) SetObjectStorageWIFConfig(context.Context, *v1beta2pb.SetObjectStorageWIFConfigRequest) (*v1beta2pb.ObjectStorageWIFConfig, error) {
	return nil, later("SetObjectStorageWIFConfig")
}

func (s *gateway) DeleteObjectStorageWIFConfig(context.Context, *v1beta2pb.DeleteObjectStorageWIFConfigRequest) (*v1beta2pb.DeleteObjectStorageWIFConfigResponse, error) {
	return nil, later("DeleteObjectStorageWIFConfig")
}

func (s *gateway) GetFileSystemSnapshotBucketConfig(context.Context, *v1beta2pb.GetFileSystemSnapshotBucketConfigRequest) (*v1beta2pb.FileSystemSnapshotBucketConfig, error) {
	return nil, later("GetFileSystemSnapshotBucketConfig")
}

func (s *gateway) SetFileSystemSnapshotBucketConfig(context.Context, *v1beta2pb.SetFileSystemSnapshotBucketConfigRequest) (*v1beta2pb.FileSystemSnapshotBucketConfig, error) {
	return nil, later("SetFileSystemSnapshotBucketConfig")
}
